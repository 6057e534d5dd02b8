"""Films in and out, with PyAV (FFmpeg's libraries): frames as RGB arrays, upright, at their own times."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.errors import ConfigError, DataError

if TYPE_CHECKING:
    from types import ModuleType

UInt8 = npt.NDArray[np.uint8]

# Encoders by the file's ending: of pictures, and of sound that cannot be taken over as it is.
ENCODERS = {
    ".mp4": ("libx264", "aac"), ".mov": ("libx264", "aac"), ".mkv": ("libx264", "aac"),
    ".webm": ("libvpx-vp9", "libopus"),
}  # fmt: skip
KEPT_SOUND = {
    ".mp4": ("aac", "mp3", "ac3", "alac", "opus"), ".mov": ("aac", "mp3", "ac3", "alac"), ".webm": ("opus", "vorbis"),
    ".mkv": ("aac", "mp3", "ac3", "alac", "opus", "vorbis", "flac"),
}  # fmt: skip
CRF = "18"  # x264's scale of quality, 0 lossless to 51: nothing to be seen of it
MAX_SIDE = 8192


@dataclass(frozen=True)
class Clip:
    """A film's frames: what is known of them before they are decoded.

    Attributes:
        uri: of the file.
        times: of each frame, in `time_base`, rising.
        time_base: unit of the times, seconds.
        rate: mean frames a second.
        size: (height, width) px, upright.
        has_sound: whether it has a sound track.
    """

    uri: str
    times: tuple[int, ...]
    time_base: Fraction
    rate: Fraction
    size: tuple[int, int]
    has_sound: bool

    @property
    def seconds(self) -> float:
        """How long it is."""
        return float(len(self.times) / self.rate)

    def sha256(self) -> str:
        """Over what is known of it; another film has another."""
        told = f"{self.times}{self.time_base}{self.size}"
        return storage.sha256(told.encode() + storage.read_bytes(self.uri))


def load_av() -> ModuleType:
    """PyAV.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        text = f"films need the package av ({error}): pip install 'tryon[video]'"
        raise ConfigError(text, code="video-unavailable", field="IN") from error
    # Its logging stays off, as it is: with a level, FFmpeg's threads call Python for each line, and a decoder that is
    # freed waits for its threads with the interpreter's lock in its hand.
    return av


def open_clip(uri: str) -> Clip:
    """Looks into a film.

    Raises:
        DataError: it is no film, has no pictures, no time stamps, or is too large.
        ConfigError: PyAV is not installed.
        StorageError: the file cannot be read.
    """
    uri = storage.absolute(uri)
    with _opened(uri) as container:
        if not container.streams.video:
            raise _fault(uri, "it has no pictures")
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            raise _fault(uri, "it is a picture, no film: `tryon infer` takes pictures")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        time_base = stream.time_base  # not to be had once the film is closed
        times = sorted({packet.pts for packet in container.demux(stream) if packet.pts is not None})
        if not times or not rate or time_base is None:
            raise _fault(uri, "its frames have no times")
        has_sound = bool(container.streams.audio)
    with _opened(uri) as container:
        first = next(iter(container.decode(video=0)), None)
        if first is None:
            raise _fault(uri, "no frame of it can be decoded")
        height, width = _upright(first).shape[:2]
    if max(height, width) > MAX_SIDE:
        raise _fault(uri, f"its frames are {width}x{height} px; at most {MAX_SIDE} a side are taken")
    return Clip(uri, tuple(times), time_base, rate, (height, width), has_sound)


def read_frames(clip: Clip, start: int, stop: int) -> Iterator[tuple[int, UInt8]]:
    """Decodes some frames; those that are damaged are left out.

    Args:
        clip: of `open_clip`.
        start: number of the first.
        stop: number after the last.

    Yields:
        Number and RGB uint8 (H, W, 3), in order.
    """
    wanted = {clip.times[number]: number for number in range(start, stop)}
    with _opened(clip.uri) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        container.seek(clip.times[start], stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.pts is None or frame.pts > clip.times[stop - 1]:
                if frame.pts is not None:
                    return
                continue
            if frame.pts in wanted:
                yield wanted[frame.pts], _upright(frame)


def check_film_out(out: str) -> None:
    """Makes sure that a film can be written under this name.

    Raises:
        ConfigError: its ending is none that is known.
    """
    if _suffix(out) not in ENCODERS:
        text = f"--out {out!r} must end in {', '.join(ENCODERS)}"
        raise ConfigError(text, code="format-unknown", field="--out")


def write_clip(clip: Clip, frames: Iterable[UInt8], out: str) -> None:
    """Writes frames as a film with another film's times and sound. It appears whole or not at all.

    Args:
        clip: whose times and sound are taken.
        frames: RGB uint8 (H, W, 3) of its size, one for each of its times.
        out: URI; its ending says the format.

    Raises:
        ConfigError: the ending is none that is known.
        StorageError: the place cannot be written.
    """
    check_film_out(out)
    with tempfile.TemporaryDirectory(prefix="tryon-film-") as folder:
        path = Path(folder) / f"film{_suffix(out)}"
        _encode(clip, frames, path)
        storage.write_bytes(out, path.read_bytes())


def _encode(clip: Clip, frames: Iterable[UInt8], path: Path) -> None:
    av = load_av()
    picture, sound = ENCODERS[path.suffix]
    height, width = (side + side % 2 for side in clip.size)  # colour at half the size wants even sides
    with av.open(str(path), "w") as target, _opened(clip.uri) as source:
        stream = target.add_stream(picture, rate=clip.rate, options={"crf": CRF})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = clip.time_base
        _copy_colours(source.streams.video[0].codec_context, stream.codec_context)
        track = _Track(source, target, sound, KEPT_SOUND[path.suffix]) if clip.has_sound else None
        colours = source.streams.video[0].codec_context.colorspace
        for time, pixels in zip(clip.times, frames, strict=True):
            padded = np.pad(pixels, ((0, height - clip.size[0]), (0, width - clip.size[1]), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=_matrix(colours))
            frame.pts, frame.time_base = time, clip.time_base
            for packet in stream.encode(frame):
                target.mux(packet)
            if track is not None:
                track.go_on(float(time * clip.time_base))
        for packet in stream.encode():
            target.mux(packet)
        if track is not None:
            track.go_on(float("inf"))


class _Track:
    """A sound track on its way from one film to the next, as it is where the format takes it, else encoded anew."""

    def __init__(self, source: Any, target: Any, encoder: str, kept: Sequence[str]) -> None:
        self._target = target
        stream = source.streams.audio[0]
        self._copies = stream.codec_context.name in kept
        if self._copies:
            self._stream = target.add_stream_from_template(stream)
        else:
            self._stream = target.add_stream(encoder, rate=48000 if encoder == "libopus" else stream.rate)
        self._packets = self._made(source, stream)
        self._next: Any = next(self._packets, None)

    def go_on(self, seconds: float) -> None:
        """Writes what is heard up to a time."""
        while self._next is not None and float(self._next.dts * self._next.time_base) <= seconds:
            self._target.mux(self._next)
            self._next = next(self._packets, None)

    def _made(self, source: Any, stream: Any) -> Iterator[Any]:
        if self._copies:
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = self._stream
                    yield packet
            return
        for frame in source.decode(stream):
            yield from self._stream.encode(frame)
        yield from self._stream.encode()


def _copy_colours(source: Any, target: Any) -> None:
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(target, name, getattr(source, name))


def _matrix(colorspace: int) -> Any:
    """How RGB becomes luma and chroma, as the source has it; films that do not say are taken as the decoder does."""
    from av.video.reformatter import Colorspace

    return Colorspace.ITU709 if colorspace == 1 else Colorspace.ITU601


def _upright(frame: Any) -> UInt8:
    """The frame's pixels as they are to be seen: a phone that was held upright turns them by its display matrix."""
    pixels: UInt8 = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


@contextmanager
def _opened(uri: str) -> Iterator[Any]:
    av = load_av()
    with storage.open_file(uri) as file:
        try:
            with av.open(file) as container:
                yield container
        except (av.error.FFmpegError, IndexError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise _fault(uri, f"it cannot be read as a film: {reason}") from error


def _fault(uri: str, reason: str) -> DataError:
    return DataError(f"{uri}: {reason}", code="video-invalid", field="IN")


def _suffix(uri: str) -> str:
    return Path(uri).suffix.lower()


def parts(num: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and stop of runs of frames, `size` each but the last."""
    edges = [*range(0, num, size), num]
    yield from itertools.pairwise(edges)
