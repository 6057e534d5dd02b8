"""The evaluation report: one HTML file with the table of figures and a grid of pictures, nothing external."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tryon import storage
from tryon.evaluation.figures import FIGURES, METHOD, badness, columns, method_title

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


@dataclass(frozen=True)
class Shown:
    """A sample of the report.

    Attributes:
        name: its id.
        figures: of the bundle, by title.
        pictures: data URIs by name.
    """

    name: str
    figures: Mapping[str, str]
    pictures: Mapping[str, str]


def write_report(out: str, evaluation: Evaluation, num: int) -> None:
    """Writes ``report.html`` into the evaluation's folder from its figures, tables and the pictures there.

    Args:
        out: URI of the folder.
        evaluation: its figures.
        num: samples that are shown, the worst ones; pictures of others are removed.
    """
    from jinja2 import Environment, PackageLoader

    rows = _worst(out, num)
    shown = {name: title for name, title in TITLES.items() if not rows or any(name in row.pictures for row in rows)}
    environment = Environment(loader=PackageLoader("tryon.evaluation"), autoescape=True)
    html = environment.get_template("report.html.j2").render(
        evaluation=evaluation,
        columns=columns(evaluation.figures.values()),
        protocol=_lines(evaluation.protocol),
        method_title=method_title,
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


def _worst(out: str, num: int) -> list[Shown]:
    """The samples that have pictures, worst first."""
    folder = storage.join(out, "pictures")
    paths: dict[tuple[int, int], dict[str, str]] = {}
    for path in storage.list_files(folder, (".jpg",)) if storage.exists(folder) else []:
        shard, row, name = path.rsplit("/", 1)[-1].removesuffix(".jpg").split("-", 2)
        paths.setdefault((int(shard), int(row)), {})[name] = path
    tables = {shard: read_table(out, shard) for shard in {shard for shard, _ in paths}}
    figures = {place: tables[place[0]][place[1]] for place in paths}
    ranked = sorted(paths, key=lambda place: (-badness(figures[place]), place))
    for place in ranked[num:]:
        for path in paths[place].values():
            storage.delete(path)
    return [_shown(figures[place], paths[place]) for place in ranked[:num]]


def read_table(out: str, shard: int) -> list[dict[str, Any]]:
    """A shard's samples: id, and figures under ``method/name``."""
    import pyarrow.parquet as pq

    table: list[dict[str, Any]] = pq.read_table(io.BytesIO(storage.read_bytes(samples_uri(out, shard)))).to_pylist()
    return table


def samples_uri(out: str, shard: int) -> str:
    """The table of a shard's figures, a row a sample."""
    return storage.join(out, "samples", f"shard-{shard:05d}.parquet")


def _shown(row: Mapping[str, Any], paths: Mapping[str, str]) -> Shown:
    told = {
        figure.title: figure.show(row[key])
        for name, figure in FIGURES.items()
        if row.get(key := f"{METHOD}/{name}") is not None
    }
    return Shown(row["id"], told, {name: _data_uri(path) for name, path in paths.items()})


def _data_uri(path: str) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(storage.read_bytes(path)).decode()}"
