"""A film through a bundle: two data jobs over its frames, and their results as a film again.

1. Decode, pose and person mask of each frame.
2. Poses smoothed in time; parse, agnostic, a warp smoothed in time, synthesis.
3. The frames in order, those without a person as they are, with the film's times and sound.

A killed run, started again, takes over the frames that it has made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.config import StageSpec
from tryon.data.batch import GARMENT_STAGES, tryon_specs
from tryon.data.job import Job
from tryon.data.shards import Manifest, Parent, read_shard, shard_uri
from tryon.engines.in_process import build_pipeline
from tryon.models.bundle import MANIFEST
from tryon.models.versions import pinned
from tryon.sample import Row
from tryon.stages.warp_clip import WarpClip
from tryon.video.clip import Clip, check_film_out, read_frames, write_clip
from tryon.video.frames import FRAMES_A_TASK, ClipSource, SteadySource

UInt8 = npt.NDArray[np.uint8]
RunJob = Callable[[Job, str, str], Manifest]
FRAME_FIELDS = ("id", "person_file", "pose", "person_mask")


@dataclass(frozen=True)
class Made:
    """What became of a film.

    Attributes:
        frames: of it.
        worn: frames on which the garment was tried on; the others are as they were.
        reasons: why the others were not, by code.
    """

    frames: int
    worn: int
    reasons: dict[str, int]


def make_video(
    clip: Clip,
    garment_file: bytes,
    out: str,
    work: str,
    run_job: RunJob,
    *,
    category: str,
    bundle: str,
    every: int = 2,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Made:
    """Puts a garment on the person of a film.

    Args:
        clip: of `open_clip`.
        garment_file: photo of the garment alone.
        out: URI of the film to write.
        work: URI of a folder for what is made on the way; it stays.
        run_job: runs a data job: given the job, the URI of its data set, and a title.
        category: upper, lower or dress.
        bundle: URI; of an alias the version that it stands for now.
        every: see `tryon.stages.warp_clip.WarpClip`.
        on_frame: told how many frames of the new film are written.

    Raises:
        ConfigError: a film of this ending cannot be written.
        SampleError: the garment photo cannot be used.
        BundleError: no such bundle, or it lacks a network.
    """
    check_film_out(out)
    bundle = pinned(storage.absolute(bundle))
    specs = tryon_specs(bundle, "frame", "garment photo")
    garment = _garment(specs, garment_file, category)
    frames, dressed = storage.join(work, "frames"), storage.join(work, "tryon")
    first = run_job(_frames_job(clip, specs), frames, "pose")
    second = run_job(_tryon_job(clip, specs, frames, garment, garment_file, category, bundle, every), dressed, "try-on")
    write_clip(clip, _film(clip, dressed, on_frame), out)
    reasons = {**first.reasons, **second.reasons}
    return Made(len(clip.times), second.rows, reasons)


def _garment(specs: list[StageSpec], file: bytes, category: str) -> Row:
    stages = [spec for spec in specs if spec.name in GARMENT_STAGES]
    return build_pipeline(stages, ("id", "category", "garment_file")).run_row(
        {"id": "garment", "category": category, "garment_file": file}
    )


def _frames_job(clip: Clip, specs: list[StageSpec]) -> Job:
    names = ("decode_person", "fit_person", "pose")
    stages = [spec for spec in specs if spec.name in names]
    source = ClipSource(clip)
    parents = (Parent(uri=clip.uri, sha256=source.content_hash()),)
    return Job(source, stages, FRAME_FIELDS, {"video": "frames"}, parents)


def _tryon_job(
    clip: Clip,
    specs: list[StageSpec],
    frames: str,
    garment: Row,
    garment_file: bytes,
    category: str,
    bundle: str,
    every: int,
) -> Job:
    left_out = (*GARMENT_STAGES, "pose")
    stages = [_of_clips(spec, every) for spec in specs if spec.name not in left_out]
    names = [stage.name for stage in stages]
    shared = names.index(WarpClip.name) + 1 if WarpClip.name in names else 0
    reach = WarpClip.reach_of(every) if shared else 0
    source = SteadySource(frames, len(clip.times), garment, category, reach)
    digest = storage.sha256(storage.read_bytes(storage.join(bundle, MANIFEST)))
    told: dict[str, Any] = {"video": {"category": category, "every": every, "garment": storage.sha256(garment_file)}}
    parents = (Parent(uri=frames, sha256=source.content_hash()), Parent(uri=bundle, sha256=digest))
    return Job(source, stages, ("id", "result"), told, parents, shared=shared)


def _of_clips(spec: StageSpec, every: int) -> StageSpec:
    if spec.name != "warp":
        return spec
    return StageSpec(name=WarpClip.name, options={**spec.options, "every": every})


def _film(clip: Clip, dressed: str, on_frame: Callable[[int], None]) -> Iterator[UInt8]:
    """The frames to write, in order; what is damaged shows the frame before it."""
    num, last = len(clip.times), np.zeros((*clip.size, 3), dtype=np.uint8)
    for shard, start in enumerate(range(0, num, FRAMES_A_TASK)):
        stop = min(start + FRAMES_A_TASK, num)
        batch = read_shard(shard_uri(dressed, shard), ("id", "result"))
        made = {int(one): pixels for one, pixels in zip(batch["id"], batch["result"], strict=True)}
        if len(made) < stop - start:
            made = {**dict(read_frames(clip, start, stop)), **made}
        for number in range(start, stop):
            last = made.get(number, last)
            yield last
            on_frame(number + 1)
