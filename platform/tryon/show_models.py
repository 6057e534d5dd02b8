"""What `tryon models networks`, `measure` and `export-onnx` show, as a table or as JSON."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from rich.table import Table

from tryon.console import console, say

if TYPE_CHECKING:
    from tryon.models.bundle import Role
    from tryon.models.table import NetworkRow


def models_shown(as_json: bool) -> None:
    """Prints every preset of every network; JSON goes to standard output and nothing else does."""
    from tryon.models.table import COUNTED, network_rows

    rows = network_rows()
    if as_json:
        print(json.dumps({"counted": COUNTED, "networks": [asdict(row) for row in rows]}, indent=2))  # noqa: T201
        return
    console.print(models_table(rows))
    say(f"MACs: {COUNTED}. A preset is a constant of the network's module.")


def measure_shown(role: str, data: str, bundle: str | None, *, as_json: bool) -> None:
    """Measures a bundle's network and prints its figures by category; JSON goes to standard output alone."""
    from tryon.config import parse_choice
    from tryon.models.bundle import Role, default_bundle
    from tryon.show import Bar
    from tryon.training.measure import measure

    role = parse_choice(role, Role, "ROLE")
    with nullcontext() if as_json else Bar(f"measure {role}") as bar:

        def on_rows(done: int, total: int) -> None:
            if bar is not None:
                bar.update(done, total, "samples")

        result = measure(bundle or default_bundle(), cast("Role", role), data, on_rows)
    if as_json:
        print(json.dumps(asdict(result), indent=2))  # noqa: T201
        return
    table = Table(title=f"{role} by recipe {result.recipe}: means over samples")
    table.add_column("figure")
    for group, rows in result.rows.items():
        table.add_column(f"{group} ({rows})", justify="right")
    for name in next(iter(result.means.values())):
        cells = [f"{means[name]:.4f}" if name in means else "-" for means in result.means.values()]
        table.add_row(name.removeprefix("val_"), *cells)
    console.print(table)


def export_shown(bundle: str | None, role: str, out: str) -> None:
    """Exports a bundle's network and says what the file takes, gives and how well it agrees."""
    from tryon.models.bundle import default_bundle, load_bundle
    from tryon.models.export import export_onnx

    network, size = load_bundle(bundle or default_bundle()).network(cast("Role", role))
    written = export_onnx(network, out, size)
    agrees = "not checked: onnxruntime is not installed"
    if written.difference is not None:
        agrees = f"at most {written.difference:.1g} from PyTorch"
    say(f"export    {role} at {size[0]}x{size[1]}, {written.num_bytes / 1e6:.1f} MB, {agrees} -> {out}")
    say(f"          {', '.join(written.inputs)} -> {', '.join(written.outputs)}")


def models_table(rows: list[NetworkRow]) -> Table:
    """Networks and presets against sizes; '-' where a network does not say."""
    from tryon.models.table import SIZES

    table = Table()
    for title in ("network", "preset", "role", "paper"):
        table.add_column(title, no_wrap=True)
    table.add_column("parameters, M", justify="right")
    sizes = [f"{h}x{w}" for h, w in SIZES]
    for size in sizes:
        table.add_column(f"GMACs {size}", justify="right")
    for row in rows:
        costs = [row.macs[size] for size in sizes]
        cells = ["-" if macs is None else f"{macs / 1e9:.2f}" for macs in costs]
        paper = f"arXiv {row.paper}" if row.paper else "-"
        table.add_row(row.name, row.preset, row.role or "-", paper, f"{row.num_parameters / 1e6:.2f}", *cells)
    return table
