"""What `tryon bench day` prints: policies side by side, and the cheapest that loses few enough requests."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from rich.table import Table

from tryon import storage
from tryon.config import parse_config
from tryon.console import console, say
from tryon.errors import ConfigError
from tryon.serving.bench.day import Day, DayConfig, simulate_day, variants

N = TypeVar("N", int, float)
BLOCKS = " ▁▂▃▄▅▆▇█"


def day_shown(
    options: Mapping[str, Any], targets: Sequence[str], least: Sequence[str], late: float, out: str | None
) -> list[Day]:
    """Simulates the day once for each policy, and prints it.

    Args:
        options: fields of `DayConfig`.
        targets: values of the policy's target_ongoing_requests.
        least: values of its min_replicas.
        late: share of requests that may be refused or late in the policy that is chosen.
        out: URI of a JSON file, or None.

    Raises:
        ConfigError: a value that is not allowed; the message names it.
    """
    config = parse_config(DayConfig, options, "bench day")
    policies = variants(
        config,
        target_ongoing_requests=_parsed("--targets", targets, float, "numbers"),
        min_replicas=_parsed("--least", least, int, "whole numbers"),
    )
    for what, one in policies:
        parse_config(DayConfig, one.model_dump(), f"bench day with {what}")
    table = Table(title=f"a day with {config.peak_per_s:g} requests/s at its peak, {config.service_s:g} s each")
    for heading in ("target", "least", "p50 s", "p95 s", "p99 s", "refused", "late", "GPU hours", "busy", "most"):
        table.add_column(heading, justify="right")
    days: list[Day] = []
    for what, one in policies:
        start = time.monotonic()
        day = simulate_day(one)
        days.append(day)
        say(f"bench     {what}: {day.served} answered, {time.monotonic() - start:.0f} s")
        table.add_row(
            f"{what['target_ongoing_requests']:g}", f"{what['min_replicas']:g}", f"{day.p50_s:.2f}", f"{day.p95_s:.2f}",
            f"{day.p99_s:.2f}", str(day.refused), str(day.late), f"{day.gpu_hours:.1f}", f"{day.busy:.0%}",
            str(day.most_replicas),
        )  # fmt: skip
    console.print(table)
    best = _cheapest(days, late)
    if best is None:
        say(f"bench     no policy loses at most {late:.2%}: raise --least, or give nodes that come sooner")
    else:
        what, chosen = policies[best][0], days[best]
        say(f"bench     cheapest that loses at most {late:.2%}: {what}, {chosen.gpu_hours:.1f} GPU hours")
        _print_curve(chosen)
    if out is not None:
        written = [
            {"config": one.model_dump(mode="json"), **asdict(day)} for (_, one), day in zip(policies, days, strict=True)
        ]
        storage.write_bytes(out, json.dumps(written, indent=2).encode())
        say(f"bench     -> {out}")
    return days


def _cheapest(days: Sequence[Day], late: float) -> int | None:
    """Place of the day with the fewest GPU hours of those that lose few enough requests."""
    good = [i for i, day in enumerate(days) if day.refused + day.late <= late * max(1, day.served + day.refused)]
    return min(good, key=lambda i: days[i].gpu_hours) if good else None


def _print_curve(day: Day) -> None:
    """Requests a second and replicas over the day, a character each twenty minutes."""
    for name, at in (("requests", 1), ("replicas", 2)):
        values = [point[at] for point in day.curve[::2]]
        top = max(values, default=0) or 1
        bars = "".join(BLOCKS[round(value / top * (len(BLOCKS) - 1))] for value in values)
        console.print(f"{name:<9} {bars}  most {top:.0f}", highlight=False)


def _parsed(name: str, values: Sequence[str], kind: type[N], what: str) -> list[N]:
    try:
        return [kind(value) for value in values]
    except ValueError as error:
        text = f"{name} {','.join(values)} must be {what} with commas between"
        raise ConfigError(text, code="config-invalid", field=name) from error
