"""A film's frames as sources: decoded for the first pass, with poses smoothed in time for the second."""

from __future__ import annotations

from collections.abc import Iterator

from tryon import storage
from tryon.codec import encode_jpeg
from tryon.data.shards import read_shard, shard_uri
from tryon.data.sources.base import Source, error_row
from tryon.errors import DataError
from tryon.sample import ERROR_FIELDS, Batch, Row
from tryon.smoothing import POSE_WINDOW, steady_poses
from tryon.video.clip import Clip, parts, read_frames

FRAMES_A_TASK = 24  # 20 MB each at 1024x768 on its way through the stages
QUALITY = 97
Task = tuple[int, int]


class ClipSource(Source):
    """A film's frames; ``id`` is the frame's number."""

    fields = ("id", "person_file")
    complete = ("id", "person_file")

    def __init__(self, clip: Clip) -> None:
        """Takes the film."""
        self._clip = clip

    def tasks(self) -> Iterator[Task]:
        """First frame and the one after the last, of each task."""
        yield from parts(len(self._clip.times), FRAMES_A_TASK)

    def read(self, task: Task) -> list[Row]:
        """The frames as files; damaged ones in error."""
        found = {n: encode_jpeg(pixels, QUALITY) for n, pixels in read_frames(self._clip, *task)}
        return [self._row(number, found.get(number)) for number in range(*task)]

    def content_hash(self) -> str:
        """Of the film."""
        return self._clip.sha256()

    @staticmethod
    def _row(number: int, file: bytes | None) -> Row:
        if file is None:
            fault = DataError(f"frame {number} is damaged", code="frame-damaged")
            return error_row(frame_id(number), fault, "frame-damaged", "read")
        return {"id": frame_id(number), "person_file": file}


class SteadySource(Source):
    """The frames that show a person, their poses smoothed in time, each with the garment to put on.

    A task's rows are its own frames and those around them that their warps depend on.
    """

    fields = ("id", "category", "person_file", "pose", "person_mask", "garment", "garment_mask")
    complete = fields

    def __init__(self, frames: str, num: int, garment: Row, category: str, reach: int) -> None:
        """Takes what the first pass has written.

        Args:
            frames: URI of its data set.
            num: frames of the film.
            garment: `garment` and `garment_mask`, at the working size.
            category: upper, lower or dress.
            reach: frames before and after that a frame's try-on depends on.
        """
        self._frames = frames
        self._num = num
        self._shared = {"category": category, "garment": garment["garment"], "garment_mask": garment["garment_mask"]}
        self._reach = reach

    def tasks(self) -> Iterator[Task]:
        """First frame and the one after the last, of each task."""
        yield from parts(self._num, FRAMES_A_TASK)

    def read(self, task: Task) -> list[Row]:
        """The task's frames and those around them."""
        start, stop = task
        around = len(POSE_WINDOW) - 1 + self._reach
        rows = self._rows(max(0, start - around), min(self._num, stop + around))
        poses = steady_poses([int(row["id"]) for row in rows], [row["pose"] for row in rows])
        return [
            {**row, **self._shared, "pose": pose}
            for row, pose in zip(rows, poses, strict=True)
            if start - self._reach <= int(row["id"]) < stop + self._reach
        ]

    def owns(self, task: Task, row_id: str) -> bool:
        """Those of the task itself."""
        return int(row_id) in range(*task)

    def content_hash(self) -> str:
        """Of the first pass' data set."""
        return storage.sha256(storage.read_bytes(storage.join(self._frames, "_manifest.json")))

    def _rows(self, start: int, stop: int) -> list[Row]:
        found: list[Row] = []
        for shard in range(start // FRAMES_A_TASK, -(-stop // FRAMES_A_TASK)):
            batch: Batch = read_shard(shard_uri(self._frames, shard), ("id", "person_file", "pose", "person_mask"))
            rows = ({name: column[i] for name, column in batch.items()} for i in range(len(batch["id"])))
            found += [row for row in rows if int(row["id"]) in range(start, stop)]
        return [{name: value for name, value in row.items() if name not in ERROR_FIELDS} for row in found]


def frame_id(number: int) -> str:
    """A frame's number as an id that sorts."""
    return f"{number:08d}"
