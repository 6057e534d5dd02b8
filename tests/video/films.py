"""Films for tests, as cameras and phones write them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
SOUND_RATE = 48000
BT709 = 1


def write_film(
    path: Path,
    frames: Sequence[UInt8],
    *,
    rate: int = 25,
    sound: str | None = "aac",
    times: Sequence[int] | None = None,
) -> Path:
    """A film of frames; `times` in units of 1 / `rate` s where they are not even."""
    codec = "libvpx-vp9" if path.suffix == ".webm" else "libx264"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": "12"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p" if not (stream.height % 2 or stream.width % 2) else "yuv444p"
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.colorspace = BT709
        track = container.add_stream(sound, rate=SOUND_RATE) if sound else None
        for place, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt, dst_colorspace="ITU709")
            frame.pts, frame.time_base = (times or range(len(frames)))[place], Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None:
            tone = np.sin(2 * np.pi * 440 * np.arange(SOUND_RATE * len(frames) // rate) / SOUND_RATE)
            for start in range(0, len(tone) - 960, 960):
                part = (tone[start : start + 960] * 0.3).astype(np.float32)[None]
                heard = av.AudioFrame.from_ndarray(part, format="flt" if sound == "libopus" else "fltp", layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
                container.mux(track.encode(heard))
            container.mux(track.encode())
    return path


def turn(path: Path) -> None:
    """Marks a film as taken with the phone held upright: shown a quarter turn clockwise of how it is stored."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version 0: the matrix comes after 40 bytes
    one = 1 << 16
    data[place : place + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def psnr(one: UInt8, other: UInt8) -> float:
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
