"""What `tryon data info|validate|report|export|diff` show. Each returns what its verb decides its exit code by."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from tryon.config import Category, Config, parse_choice, parse_config
from tryon.console import console, say
from tryon.show import Bar, maybe_ray, run_job_shown

if TYPE_CHECKING:
    from tryon.data.crawl.config import CrawlConfig, CrawlReport
    from tryon.data.curate.splits import SplitConfig, SplitManifest
    from tryon.data.export import ExportConfig, ExportResult
    from tryon.data.look.checks import ValidateConfig
    from tryon.data.look.diff import DataDiff
    from tryon.data.look.info import DataInfo
    from tryon.data.look.report import ReportConfig
    from tryon.data.look.validate import ValidationResult
    from tryon.data.shards import Manifest

EXAMPLES = 3
OnShard = Callable[[int, int], None]
OnPart = Callable[[str, int, int], None]


@contextmanager
def _progress(title: str, num_actors: int | None, *, quiet: bool = False) -> Iterator[OnPart]:
    """A Ray session and a progress bar over shards; none where standard output is to hold JSON and nothing else."""
    with maybe_ray(num_actors):
        if quiet:
            yield lambda part, done, total: None
            return
        with Bar(title) as bar:
            yield lambda part, done, total: bar.update(done, total, part)


def _shards(show: OnPart) -> OnShard:
    return lambda done, total: show("shards", done, total)


def annotate_shown(
    uri: str,
    out: str,
    options: Mapping[str, Any],
    *,
    photos: str = "auto",
    pairing: str = "paired",
    category: str | None = None,
    num_actors: int | None = None,
) -> Manifest:
    """Opens a source, annotates it, and says what lay beside the photos and was passed by."""
    from tryon.data.annotate import AnnotateConfig, annotate_job
    from tryon.data.sources.base import Pairing, Photos
    from tryon.data.sources.open import open_source

    config = parse_config(AnnotateConfig, options, "annotate")
    source = open_source(
        uri,
        parse_choice(photos, Photos, "--photos"),
        pairing=parse_choice(pairing, Pairing, "--pairing"),
        category=parse_choice(category, Category, "--category") if category else None,
    )
    manifest = run_job_shown(annotate_job(source, config, uri), out, "annotate", num_actors)
    if source.left_out:
        say(f"          {source.left_out.notice()}")
    return manifest


def batch_tryon_shown(
    uri: str,
    out: str,
    bundle: str | None,
    *,
    mask: bool = False,
    sampling: Mapping[str, Any] | None = None,
    num_actors: int | None = None,
) -> Manifest:
    """Tries the garments of a table of pairs on, with a progress bar."""
    from tryon.data.batch import batch_tryon_job
    from tryon.data.sources.open import open_source
    from tryon.models.bundle import default_bundle

    source = open_source(uri)
    job = batch_tryon_job(source, bundle or default_bundle(), uri, sampling=sampling, mask=mask)
    return run_job_shown(job, out, "try on", num_actors)


def info_shown(data: str, *, as_json: bool = False, num_actors: int | None = 0) -> DataInfo:
    """Prints what a data set holds, as tables or as JSON."""
    from tryon.data.look.info import info

    with _progress("info", num_actors, quiet=as_json) as show:
        told = info(data, num_actors=num_actors, on_shard=_shards(show))
    if as_json:
        _print_json(told)
        return told
    facts = _table("", "")
    facts.show_header = False
    rows = f"{told.rows_in:,} in = {told.rows:,} kept + {told.quarantined:,} set aside"
    _rows(facts, {"data set": told.uri, "rows": rows, "shards": f"{told.num_shards:,}, {_bytes(told.bytes)}"})
    _rows(facts, {name: _counts(counts) for name, counts in told.values.items() if set(counts) != {"-"}})
    _rows(facts, {f"{photo} size": _counts(counts) for photo, counts in told.sizes.items()})
    stale = " (of older shards: run `tryon data split` again)" if told.splits_stale else ""
    _rows(facts, {"split into": _counts(told.splits) + stale if told.splits else ""})
    _rows(facts, {"set aside": _counts(told.reasons), "licence": told.licence})
    _rows(facts, {"made from": "\n".join(parent.uri for parent in told.parents)})
    _rows(facts, {"annotators": ", ".join(f"{name} {version}" for name, version in told.annotators.items())})
    _rows(facts, {"config": ", ".join(f"{key}={value}" for key, value in told.config.items())})
    _rows(facts, {"content": f"sha256 {told.sha256}", "written by": f"tryon {told.tryon_version}"})
    fields = _table("field", "kind", "rows", "on disk", right=("rows", "on disk"))
    for name, field in told.fields.items():
        _add(fields, name, field.kind, f"{field.rows:,}", _bytes(field.bytes))
    console.print(facts, fields)
    return told


def validate_shown(
    data: str, config: ValidateConfig | None = None, *, as_json: bool = False, num_actors: int | None = None
) -> ValidationResult:
    """Prints a table of the checks with the first faults of each; the verb exits with 1 unless `ok`."""
    from tryon.data.look.validate import validate

    start = time.monotonic()
    with _progress("validate", num_actors, quiet=as_json) as show:
        result = validate(data, config, num_actors=num_actors, on_shard=_shards(show))
    if as_json:
        _print_json(result, ok=result.ok)
        return result
    table = _table("check", "what must hold", "looked at", "failed", "first", right=("looked at", "failed"))
    for check in result.checks:
        first = "\n".join(f"{found.where}: {found.what}" for found in check.first[:EXAMPLES])
        style = "red" if check.failed else None
        _add(table, check.name, check.meaning, f"{check.checked:,}", f"{check.failed:,}", first, style=style)
    console.print(table)
    failed = [check.name for check in result.checks if check.failed]
    told = f"failed: {', '.join(failed)}" if failed else "all passed"
    text = f"validate  {result.rows:,} rows, {len(result.checks)} checks, {told}, {time.monotonic() - start:.0f} s"
    say(text)
    return result


def report_shown(data: str, out: str, config: ReportConfig | None = None, *, num_actors: int | None = None) -> DataInfo:
    """Writes the report and says where."""
    from tryon.data.look.report import report

    with _progress("report", num_actors) as show:
        told = report(data, out, config, num_actors=num_actors, on_shard=show)
    text = f"report    {told.rows:,} samples, {told.quarantined:,} set aside -> {out}"
    say(text)
    return told


def export_shown(
    data: str,
    out: str,
    layout: str = "viton-hd",
    config: ExportConfig | None = None,
    *,
    num_actors: int | None = None,
) -> ExportResult:
    """Exports, and prints what was written and what a reader should know."""
    from tryon.data.export import export

    start = time.monotonic()
    with _progress("export", num_actors) as show:
        result = export(data, out, layout, config, num_actors=num_actors, on_shard=_shards(show))
    folders = ", ".join(f"{split} {count:,}" for split, count in result.splits.items()) or "nothing"
    counts = f"{result.rows:,} rows = {result.written:,} written + {result.left_out:,} left out"
    text = f"export    {counts} ({folders}), {time.monotonic() - start:.0f} s -> {out}"
    say(text)
    for notice, count in result.notices.items():
        say(f"          {count:,} x {notice}")
    return result


def diff_shown(a: str, b: str, *, as_json: bool = False, num_actors: int | None = None) -> DataDiff:
    """Prints what differs; the verb exits with 1 unless `equal`."""
    from tryon.data.look.diff import diff

    with _progress("diff", num_actors, quiet=as_json) as show:
        found = diff(a, b, num_actors=num_actors, on_shard=show)
    if as_json:
        _print_json(found, equal=found.equal)
        return found
    rows = _table("rows", "", "first", right=("",))
    _add(rows, "same", f"{found.same:,}", "")
    for kind in ("added", "removed", "changed"):
        ids = ", ".join(found.first[kind][:EXAMPLES])
        _add(rows, kind, f"{getattr(found, kind):,}", ids + (" ..." if len(found.first[kind]) > EXAMPLES else ""))
    console.print(rows)
    if found.fields_changed:
        console.print(_change_table(found))
    told = {f"field {name}": ("-", "added") for name in found.fields_added}
    told |= {f"field {name}": ("removed", "-") for name in found.fields_removed}
    told |= {key: (str(old), str(new)) for key, (old, new) in found.told.items()}
    if told:
        table = _table("manifest", "first", "second")
        for key, (old, new) in told.items():
            _add(table, key, old, new)
        console.print(table)
    say(f"diff      the samples are {'the same' if found.equal else 'not the same'}")
    return found


def _change_table(found: DataDiff) -> Table:
    table = _table("field", "rows", "by how much", "mean", "worst", right=("rows", "mean", "worst"))
    for name, count in found.fields_changed.items():
        layer = found.layers.get(name)
        if layer is None:
            _add(table, name, f"{count:,}", "", "", "")
            continue
        figures = ["-" if value is None else f"{value:.4g}" for value in (layer.mean, layer.worst)]
        only = f"; {layer.incomparable:,} on one side only or of another size" if layer.incomparable else ""
        _add(table, name, f"{count:,}", layer.unit + only, *figures)
    if found.measured < found.changed:
        table.caption = f"measured on {found.measured:,} of {found.changed:,} changed rows"
    return table


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _add(table: Table, *cells: str, style: str | None = None) -> None:
    """A row of plain text: ids and messages may hold what rich would take for markup."""
    table.add_row(*(Text(cell) for cell in cells), style=style)


def _rows(table: Table, rows: Mapping[str, str]) -> None:
    for name, text in rows.items():
        if text:
            _add(table, name, text)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{'not said' if name == '-' else name} {count:,}" for name, count in counts.items())


def _bytes(num_bytes: int) -> str:
    from rich.filesize import decimal

    return decimal(num_bytes)


def _print_json(told: Config, **more: Any) -> None:
    """JSON on standard output, in one piece: no wrapping, no colours."""
    import json

    text = json.dumps({**told.model_dump(mode="json"), **more}, indent=2, ensure_ascii=False)
    console.out(text, highlight=False)


def crawl_shown(config: CrawlConfig, out: str) -> CrawlReport:
    """Crawls with a line of pages, photos and faults, and says what was left out and why."""
    from tryon.data.crawl.walk import CrawlProgress, crawl

    with Bar("crawl") as bar:

        def on_progress(at: CrawlProgress) -> None:
            text = f"{at.images} photos, {at.failed} failed, {at.waiting} pages waiting, {at.requests} requests"
            bar.update(at.pages, None, text)

        report = crawl(config, out, on_progress)
    text = f"crawl     {report.found} photos asked for = {report.images} kept + {report.duplicates} duplicates + failed"
    say(f"{text}, {report.pages} pages -> {out}")
    for code, count in {**report.failures, **report.refused_hosts}.items():
        say(f"          {count:,} x {code}")
    return report


def split_shown(data: str, config: SplitConfig, *, num_actors: int | None = None) -> SplitManifest:
    """Splits and pairs a data set, and prints what lies on each side."""
    from tryon.data.curate.pair_steps import PairConfig
    from tryon.data.curate.pairs import pair_data
    from tryon.data.curate.splits import split_data
    from tryon.data.curate.steps import actors_for
    from tryon.data.shards import read_manifest

    num_actors = actors_for(num_actors, read_manifest(data))
    with _progress("split", num_actors) as show:
        made = split_data(data, config, num_actors=num_actors, on_step=show)
        pairs = pair_data(data, PairConfig(seed=config.seed), num_actors=num_actors, on_step=show)
    table = _table(
        "split", "rows", "duplicates", "paired", "unpaired", right=("rows", "duplicates", "paired", "unpaired")
    )
    for name, side in made.sides.items():
        counts = pairs.counts.get(name, {})
        figures = (side.rows, side.duplicates, counts.get("paired", 0), counts.get("unpaired", 0))
        _add(table, name, *(f"{figure:,}" for figure in figures))
    console.print(table)
    if made.conflicts:
        first = ", ".join(made.conflict_examples[:EXAMPLES])
        text = f"split     {made.conflicts:,} groups of linked rows come with different splits and leak: {first} ..."
        say(text)
    return made
