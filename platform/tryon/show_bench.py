"""What `tryon bench` prints: a line a run, a table of medians, a table of figures against what is asked."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel
from rich.table import Table

from tryon import storage
from tryon.config import parse_config, parse_size
from tryon.console import console, say
from tryon.data.annotate import TRAINING_LAYERS, AnnotateConfig, annotate_job
from tryon.data.shards import MANIFEST
from tryon.data.sources.open import open_source
from tryon.data.synth import SynthConfig, synth_job
from tryon.errors import ConfigError, StorageError
from tryon.evaluation.solvers import SolverFigures, compare_bundle
from tryon.measured import Figure
from tryon.models.weights import cache_folder
from tryon.show import Bar, run_job_shown
from tryon.training.bench import COPIES, NUM_SIMULATED, BenchConfig, BenchResult, Leg, bench, multiply, resolve
from tryon.training.run import check_run

KINDS = {
    "plain": "plain loop, no Ray",
    "ray": "Ray Train, one worker",
    "two": "Ray Train, two workers",
    "streamed": "Ray Train, one worker, shards streamed",
}
SERVED = {
    "local": "the pipeline, no server",
    "workers": "the pipeline, a process a core",
    "fused": "service, one replica",
    "split": "service, a deployment a step",
    "replicas": "service, a replica a core",
    "batching": "service, one replica, batches",
    "fastapi": "FastAPI and uvicorn",
    "litserve": "LitServe",
}
LEG_UNITS = {"samples_per_s": "samples/s", "p50_s": "p50 s", "p95_s": "p95 s", "per_s": "try-ons/s"}
SEED = 11


def bench_shown(options: Mapping[str, Any], data: str | None, bundle: str | None, out: str | None) -> bool:
    """Measures training and prints it.

    Args:
        options: fields of `BenchConfig`.
        data: URI of an annotated data set; None: a simulated one.
        bundle: that frozen networks come from.
        out: URI of a JSON file, or None.

    Returns:
        True where all figures are what is asked.

    Raises:
        TryonError: an option, the data set or the bundle cannot be used.
    """
    config = resolve(parse_config(BenchConfig, options, "bench"))
    data = data or simulated(config)
    check_run(config.recipe, data, f"{cache_folder()}/bench/none", {"size": config.size, "val_fraction": 0.0}, bundle)

    def on_leg(leg: Leg) -> None:
        speed = f"{leg.samples_per_s:.1f} samples/s, data wait {leg.data_wait_share:.1%}"
        text = f"bench     {leg.repeat + 1}/{config.repeats} {KINDS[leg.kind]}: {speed}"
        say(text)

    result = bench(config, data, bundle, on_leg)
    _print(result)
    _keep(result, out)
    return all(figure.passed for figure in result.figures)


def pipeline_shown(options: Mapping[str, Any], out: str | None) -> None:
    """Times the stages of a try-on or of annotation and prints them.

    Args:
        options: fields of `PipelineBenchConfig`; sizes and batches as text with commas.
        out: URI of a JSON file, or None.

    Raises:
        TryonError: an option or the bundle cannot be used.
    """
    from tryon.serving.bench.stages import PipelineBenchConfig, StageTime, bench_pipeline

    told = {**options, "sizes": [parse_size(size) for size in str(options["sizes"]).split(",")]}
    config = parse_config(PipelineBenchConfig, {**told, "batches": str(options["batches"]).split(",")}, "bench")

    def on_row(row: StageTime) -> None:
        size = f"{row.size[0]}x{row.size[1]}, {row.batch} at a time"
        say(f"bench     {size}: {1000 * row.median_s:.0f} ms {'a pair' if config.work == 'annotate' else 'a try-on'}")

    result = bench_pipeline(config, on_row)
    _print_machine(result.machine)
    peak = f"a convolution reaches {result.flops_per_s / 1e9:.0f} GFLOP/s, a copy {result.bytes_per_s / 1e9:.1f} GB/s"
    say(f"{result.config.threads} threads: {peak}; at most {result.peak_memory_mb:.0f} MB of memory")
    for size, batch in dict.fromkeys((row.size, row.batch) for row in result.rows):
        table = Table(
            title=f"{size[0]}x{size[1]} px, {batch} at a time, ms a pair of photos, medians of {config.repeats}"
        )
        for heading in ("stage", "median", "least", "most", "floor", "times the floor"):
            table.add_column(heading, justify="left" if heading == "stage" else "right")
        for row in (row for row in result.rows if (row.size, row.batch) == (size, batch)):
            spread = [f"{1000 * value:.1f}" for value in (row.median_s, row.least_s, row.most_s)]
            floor = "-" if row.floor_s is None else f"{1000 * row.floor_s:.2f}"
            times = "-" if not row.floor_s else f"{row.median_s / row.floor_s:.1f}"
            table.add_row(row.stage, *spread, floor, times)
        console.print(table)
    _keep(result, out)


def catalogue_shown(options: Mapping[str, Any], out: str | None) -> None:
    """Times a catalogue's try-ons beside strangers', with a bar, and prints them.

    Args:
        options: fields of `CatalogueBenchConfig`.
        out: URI of a JSON file, or None.

    Raises:
        TryonError: an option or the bundle cannot be used.
    """
    from tryon.serving.bench.catalogue import CatalogueBenchConfig, bench_catalogue

    config = parse_config(CatalogueBenchConfig, options, "bench catalogue")
    with Bar("bench") as bar:
        result = bench_catalogue(config, lambda done, of: bar.update(done, of, "runs"))
    _print_machine(result.machine)
    size = f"{config.size[0]}x{config.size[1]} px, {config.batch} at a time, {result.config.threads} threads"
    table = Table(title=f"{config.num} try-ons, {size}")
    for heading in ("kind", "try-ons/s, median", "least", "most"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for name, found in result.per_s.items():
        table.add_row(name, *(f"{value:.2f}" for value in (statistics.median(found), min(found), max(found))))
    console.print(table)
    _print_figures(result.figures, config.repeats)
    _keep(result, out)


def scale_shown(options: Mapping[str, Any], out: str | None) -> None:
    """Measures what a row costs as data sets grow, and prints it.

    Args:
        options: fields of `ScaleBenchConfig`; rows and works as text with commas.
        out: URI of a JSON file, or None.

    Raises:
        TryonError: an option or the bundle cannot be used.
    """
    from tryon.serving.bench.scale import Cost, ScaleBenchConfig, bench_scale

    told = {**options, **{name: str(options[name]).split(",") for name in ("rows", "works")}}
    config = parse_config(ScaleBenchConfig, told, "bench scale")

    def on_cost(cost: Cost) -> None:
        told = f"{cost.ms_a_row:.1f} ms a row, {cost.memory_mb:.0f} MB"
        say(f"bench     {cost.work}, {cost.rows} rows: {told}, {cost.seconds:.0f} s")

    result = bench_scale(config, on_cost)
    _print_machine(result.machine)
    _print_figures(result.figures, 0)
    _keep(result, out)


def compare_shown(a: str, b: str) -> None:
    """Prints two results of a bench side by side.

    Raises:
        ConfigError: a file is no result of a bench, or the two have nothing in common.
    """
    results = [_values_of(uri) for uri in (a, b)]
    shared = [name for name in results[0] if name in results[1]]
    if not shared:
        text = f"{a} and {b} have no figure in common: are they of the same bench?"
        raise ConfigError(text, code="bench-unlike", field="B")
    table = Table()
    for heading in ("figure", "A", "B", "B / A"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name in shared:
        before, after = results[0][name], results[1][name]
        table.add_row(name, f"{before:.4g}", f"{after:.4g}", f"{after / before:.3f}" if before else "-")
    console.print(table)


def _values_of(uri: str) -> dict[str, float]:
    """What a bench's JSON file says, by name: medians of stages and legs, and figures.

    Raises:
        ConfigError: no such file, or none of a bench.
    """
    try:
        told: Any = json.loads(storage.read_bytes(uri))
        if isinstance(told, list):  # of solvers
            told = {"solvers": told}
        found: dict[str, list[float]] = {}
        for row in told.get("rows", ()):
            size = "x".join(map(str, row["size"]))
            found[f"{size}, {row['batch']} at a time, {row['stage']}, ms"] = [1000 * row["median_s"]]
        for leg in told.get("legs", ()):
            name = KINDS.get(leg["kind"]) or SERVED.get(leg["kind"], leg["kind"])
            for key, unit in LEG_UNITS.items():
                if key in leg:
                    clients = f", {leg['clients']} at once" if "clients" in leg else ""
                    found.setdefault(f"{name}{clients}, {unit}", []).append(leg[key])
        for cost in told.get("costs", ()):
            found[f"{cost['work']}, {cost['rows']} rows, ms a row"] = [cost["ms_a_row"]]
        for name, values in told.get("per_s", {}).items():
            found[f"{name}, try-ons/s"] = list(values)
        for row in told.get("solvers", ()):
            found[f"{row['solver']} {row['steps']}, s a sample"] = [row["seconds"]]
        for figure in told.get("figures", ()):
            found[figure["name"]] = [figure["value"]]
    except (StorageError, ValueError, AttributeError, KeyError, TypeError) as error:
        reason = getattr(error, "message", None) or f"it is no result of `tryon bench` ({type(error).__name__})"
        raise ConfigError(f"{uri}: {reason}", code="bench-invalid") from error
    return {name: statistics.median(values) for name, values in found.items()}


def solvers_shown(bundle: str, data: str, num: int, seeds: int, out: str | None) -> list[SolverFigures]:
    """Compares the solvers of a bundle's diffusion network and prints a table, the reference first.

    Args:
        bundle: URI.
        data: URI of an annotated data set.
        num: of its first samples that are sampled.
        seeds: each with so many noises.
        out: URI of a JSON file, or None.

    Raises:
        BundleError: no bundle, or its synthesis network does not sample.
        DataError: no data set, or fields missing.
    """
    figures = compare_bundle(bundle, data, num, seeds=range(seeds))
    table = Table(title=f"{num} samples, {seeds} seed{'s' if seeds > 1 else ''}")
    headings = ("solver", "steps", "SSIM", "PSNR dB", "SSIM to the first", "s a sample", "times as fast")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "solver" else "right")
    for row in figures:
        near = (f"{row.ssim:.4f}", f"{row.psnr:.2f}", f"{row.ssim_to_reference:.4f}")
        table.add_row(row.solver, str(row.steps), *near, f"{row.seconds:.2f}", f"{row.speedup:.1f}")
    console.print(table)
    if out is not None:
        storage.write_bytes(out, json.dumps([asdict(row) for row in figures], indent=2).encode())
        say(f"bench     -> {out}")
    return figures


def simulated(config: BenchConfig) -> str:
    """A data set to measure with, made once for each size."""
    folder = str(cache_folder() / "bench" / f"{config.size[0]}x{config.size[1]}")
    if not storage.exists(storage.join(folder, "data", MANIFEST)):
        raw, annotated = storage.join(folder, "raw"), storage.join(folder, "annotated")
        run_job_shown(synth_job(SynthConfig(num=NUM_SIMULATED, size=config.size, seed=SEED)), raw, "simulate")
        run_job_shown(
            annotate_job(open_source(raw), AnnotateConfig(layers=TRAINING_LAYERS), raw), annotated, "annotate"
        )
        multiply(annotated, storage.join(folder, "data"), COPIES)
    return storage.join(folder, "data")


def _print(result: BenchResult) -> None:
    config = result.config
    _print_machine(result.machine)
    sizes = f"{config.size[0]}x{config.size[1]}, batch {config.batch_size}, {config.threads} threads"
    speeds = Table(title=f"{config.recipe} at {sizes}")
    for heading in ("run", "samples/s, median", "least", "most", "data wait, median"):
        speeds.add_column(heading, justify="left" if heading == "run" else "right")
    for kind, title in KINDS.items():
        legs = [leg for leg in result.legs if leg.kind == kind]
        found = [leg.samples_per_s for leg in legs]
        wait = statistics.median(leg.data_wait_share for leg in legs)
        cells = [f"{value:.2f}" for value in (statistics.median(found), min(found), max(found))]
        speeds.add_row(title, *cells, f"{wait:.1%}")
    console.print(speeds)
    _print_figures(result.figures, config.repeats)


def serve_shown(options: Mapping[str, Any], out: str | None) -> bool:
    """Measures the service and prints it.

    Args:
        options: fields of `ServeBenchConfig`.
        out: URI of a JSON file, or None.

    Returns:
        True where all figures are what is asked.

    Raises:
        TryonError: an option or the bundle cannot be used, or a server does not answer.
    """
    from tryon.serving.bench.run import Leg as ServeLeg
    from tryon.serving.bench.run import ServeBenchConfig, ServeBenchResult, bench_serve

    config = parse_config(ServeBenchConfig, options, "bench")
    if config.repeats:
        say("bench     starts the peers, then Ray with the service in one shape after another")

    def on_leg(leg: ServeLeg) -> None:
        speed = f"p50 {1000 * leg.p50_s:.0f} ms, {leg.per_s:.2f} try-ons/s"
        say(f"bench     {leg.repeat + 1}/{config.repeats} {SERVED[leg.kind]}, {leg.clients} at once: {speed}")

    result: ServeBenchResult = bench_serve(config, on_leg)
    _print_machine(result.machine)
    height, width = config.size
    table = Table(title=f"try-ons of {height}x{width} px photos, medians of {config.repeats}")
    for heading in ("what answers", "clients", "p50 ms", "p95 ms", "try-ons/s"):
        table.add_column(heading, justify="left" if heading == "what answers" else "right")
    for kind, clients in dict.fromkeys((leg.kind, leg.clients) for leg in result.legs):
        legs = [leg for leg in result.legs if (leg.kind, leg.clients) == (kind, clients)]
        p50, p95, speed = (
            statistics.median(getattr(leg, name) for leg in legs) for name in ("p50_s", "p95_s", "per_s")
        )
        table.add_row(SERVED[kind], str(clients), f"{1000 * p50:.0f}", f"{1000 * p95:.0f}", f"{speed:.2f}")
    if result.legs:
        console.print(table)
    for found in (result.killed, result.overloaded, result.scaled):
        if found is not None:
            say("bench     " + ", ".join(f"{name} {value:g}" for name, value in found.model_dump().items()))
    if result.figures:
        _print_figures(result.figures, config.repeats)
    _keep(result, out)
    return all(figure.passed for figure in result.figures)


def _keep(result: BaseModel, out: str | None) -> None:
    if out is not None:
        storage.write_bytes(out, result.model_dump_json(indent=2).encode())
        say(f"bench     -> {out}")


def _print_machine(machine: Mapping[str, Any]) -> None:
    told = [f"{name} {value}" for name, value in machine["versions"].items()]
    say(f"{machine['processor']}, {machine['cores']} cores")
    say(f"Python {machine['python']}, {', '.join(told)}; {machine['system']}")


def _print_figures(found: Sequence[Figure], repeats: int) -> None:
    table = Table(title=f"medians of {repeats}" if repeats else None)
    for heading in ("figure", "value", "asked", ""):
        table.add_column(heading)
    for figure in found:
        asked = f"{'>=' if figure.least else '<='} {figure.bar:g}"
        table.add_row(figure.name, f"{figure.value:.3f}", asked, "yes" if figure.passed else "[red]no[/red]")
    console.print(table)
