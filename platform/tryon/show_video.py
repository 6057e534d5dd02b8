"""What `tryon video` and `tryon bench video` show."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from tryon import storage
from tryon.config import parse_config
from tryon.console import console, say
from tryon.infer import check_category
from tryon.models.bundle import default_bundle
from tryon.show import Bar, maybe_ray, run_job_shown

if TYPE_CHECKING:
    from tryon.data.job import Job
    from tryon.data.shards import Manifest

FOLDER = "-work"


def video_shown(
    film: str, garment: str, out: str, *, category: str, bundle: str | None, every: int, num_actors: int | None
) -> None:
    """Puts a garment on a film's person, with bars, and removes what was made on the way."""
    from tryon.video.clip import check_film_out, open_clip
    from tryon.video.run import make_video

    check_category(category)
    check_film_out(out)
    clip = open_clip(film)
    height, width = clip.size
    told = f"{len(clip.times)} frames of {width}x{height} px, {float(clip.rate):.4g} a second"
    say(f"{'film':<9} {told}{', with sound' if clip.has_sound else ''}")
    start, work = time.monotonic(), f"{out}{FOLDER}"
    with maybe_ray(num_actors), Bar("film") as bar:
        made = make_video(
            clip, storage.read_bytes(garment), out, work, partial(_run, num_actors), category=category,
            bundle=bundle or default_bundle(), every=every,
            on_frame=lambda done: bar.update(done, len(clip.times), "frames written"),
        )  # fmt: skip
    storage.delete(work)
    seconds = time.monotonic() - start
    left = made.frames - made.worn
    why = ", ".join(f"{code} {num}" for code, num in sorted(made.reasons.items()))
    say(f"{'film':<9} {made.worn} frames tried on, {left} as they were{f' ({why})' if left else ''}")
    say(f"{'film':<9} {out}: {seconds:.0f} s, {made.frames / seconds:.2f} frames/s")


def _run(num_actors: int | None, job: Job, out: str, title: str) -> Manifest:
    return run_job_shown(job, out, title, num_actors)


def bench_video_shown(options: dict[str, Any], out: str | None) -> None:
    """A table of both ways, and JSON where it is asked for."""
    from tryon.video.bench import VideoBenchConfig, bench_video

    config = parse_config(VideoBenchConfig, options, "bench video")
    with Bar("walks") as bar:
        found = bench_video(config, lambda done: bar.update(done, config.walks, "walks"))
    table = Table(box=box.SIMPLE_HEAD, title=f"{config.walks} walks of {config.frames} frames, {config.bundle}")
    for column in ("warp", "flicker, px", "end-point error, px", "ms a frame"):
        table.add_column(column, justify="left" if column == "warp" else "right")
    for name, one in found.items():
        table.add_row(name, f"{one.flicker_px:.3f}", f"{one.epe_px:.2f}", f"{one.warp_ms:.1f}")
    console.print(table)
    before, after = (one.flicker_px for one in found.values())
    say(f"{'flicker':<9} {after / before:.3f} of what it is frame by frame")
    if out is not None:
        import json

        told = {"config": config.model_dump(mode="json"), "ways": {k: v.model_dump() for k, v in found.items()}}
        storage.write_bytes(out, json.dumps(told, indent=2).encode())
