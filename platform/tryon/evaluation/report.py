"""The evaluation report: one HTML file with the table of figures and a grid of pictures, nothing external."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tryon import storage
from tryon.evaluation.figures import columns

if TYPE_CHECKING:
    from tryon.evaluation.run import Evaluation

TITLES = {
    "person": "person",
    "garment": "garment",
    "agnostic": "agnostic",
    "warped_garment": "warped",
    "tryon": "result",
    "truth": "truth",
}
METHOD_TITLES = {"bundle": "this bundle", "agnostic": "grey agnostic person", "affine_paste": "affine paste"}


def write_report(out: str, evaluation: Evaluation) -> None:
    """Writes ``report.html`` into the evaluation's folder from its figures and the pictures there."""
    from jinja2 import Environment, PackageLoader

    rows = _pictures(out)
    shown = {name: title for name, title in TITLES.items() if not rows or any(name in row for row in rows)}
    environment = Environment(loader=PackageLoader("tryon.evaluation"), autoescape=True)
    html = environment.get_template("report.html.j2").render(
        evaluation=evaluation,
        columns=columns(evaluation.figures.values()),
        protocol=_lines(evaluation.protocol),
        method_titles=METHOD_TITLES,
        titles=shown,
        rows=rows,
    )
    storage.write_bytes(storage.join(out, "report.html"), html.encode())


def _lines(protocol: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A line for each value, those of nested tables under ``outer.inner``."""
    for key, value in protocol.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{key}.")
        else:
            yield prefix + key, " to ".join(map(str, value)) if key.endswith("_px") else str(value)


def _pictures(out: str) -> list[dict[str, str]]:
    """A row a sample: picture name to data URI."""
    folder = storage.join(out, "pictures")
    rows: dict[str, dict[str, str]] = {}
    for path in storage.list_files(folder, (".jpg",)) if storage.exists(folder) else []:
        sample, _, name = path.rsplit("/", 1)[-1].removesuffix(".jpg").rpartition("-")
        data = base64.b64encode(storage.read_bytes(path)).decode()
        rows.setdefault(sample, {})[name] = f"data:image/jpeg;base64,{data}"
    return [rows[sample] for sample in sorted(rows)]
