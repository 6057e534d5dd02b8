"""Films in and out."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.video.films import psnr, sound_packets, turn, write_film
from tryon.errors import ConfigError, DataError
from tryon.video.clip import check_film_out, open_clip, read_frames, write_clip

UInt8 = npt.NDArray[np.uint8]


def pictures(num: int, height: int = 96, width: int = 64) -> list[UInt8]:
    """Smooth colours with a square that moves a pixel a frame."""
    rng = np.random.default_rng(0)
    few = rng.integers(30, 220, (4, 3, 3), dtype=np.uint8)
    ground = cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC)
    frames = [ground.copy() for _ in range(num)]
    for i, frame in enumerate(frames):
        frame[20:40, 5 + i : 25 + i] = (200, 40, 40)
    return frames


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_film(tmp_path / "in.mp4", pictures(30))


def test_a_film_is_described(film: Path) -> None:
    clip = open_clip(str(film))
    assert (len(clip.times), clip.size, float(clip.rate), clip.has_sound) == (30, (96, 64), 25.0, True)
    assert clip.seconds == pytest.approx(1.2)


@pytest.mark.parametrize(("start", "stop"), [(0, 30), (0, 1), (7, 19), (29, 30)])
def test_frames_are_read_from_anywhere(film: Path, start: int, stop: int) -> None:
    true = pictures(30)
    found = dict(read_frames(open_clip(str(film)), start, stop))
    assert list(found) == list(range(start, stop))
    assert min(psnr(found[i], true[i]) for i in found) > 32
    best = {i: max(range(30), key=lambda j: psnr(pixels, true[j])) for i, pixels in found.items()}
    assert all(i == j for i, j in best.items())


def test_uneven_times_stay(tmp_path: Path) -> None:
    times = [0, 1, 2, 5, 6, 10, 11, 30]
    film = write_film(tmp_path / "in.mp4", pictures(8), rate=30, times=times)
    clip = open_clip(str(film))
    seconds = [float(time * clip.time_base) for time in clip.times]
    assert seconds == pytest.approx([time / 30 for time in times], abs=1e-3)
    out = tmp_path / "out.mp4"
    write_clip(clip, (pixels for _, pixels in read_frames(clip, 0, 8)), str(out))
    again = open_clip(str(out))
    assert [float(time * again.time_base) for time in again.times] == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_what_is_not_changed_stays_and_sound_is_taken_over(film: Path, tmp_path: Path, ending: str) -> None:
    clip, out = open_clip(str(film)), tmp_path / f"out{ending}"
    before = [pixels for _, pixels in read_frames(clip, 0, 30)]
    write_clip(clip, before, str(out))
    after = [pixels for _, pixels in read_frames(open_clip(str(out)), 0, 30)]
    assert min(psnr(a, b) for a, b in zip(before, after, strict=True)) > 36
    shift = np.mean([a.astype(float) - b for a, b in zip(before, after, strict=True)], axis=(0, 1, 2))
    assert np.abs(shift).max() < 2, "colours are those of the film, but for rounding"
    assert sound_packets(out) == sound_packets(film)


def test_sound_that_the_format_does_not_take_is_encoded_anew(film: Path, tmp_path: Path) -> None:
    clip, out = open_clip(str(film)), tmp_path / "out.webm"
    write_clip(clip, (pixels for _, pixels in read_frames(clip, 0, 30)), str(out))
    again = open_clip(str(out))
    assert (len(again.times), again.has_sound) == (30, True)
    assert len(sound_packets(out)) > 20


def test_a_film_without_sound(tmp_path: Path) -> None:
    clip = open_clip(str(write_film(tmp_path / "in.mp4", pictures(5), sound=None)))
    write_clip(clip, pictures(5), str(tmp_path / "out.mp4"))
    assert not open_clip(str(tmp_path / "out.mp4")).has_sound


def test_odd_sides(tmp_path: Path) -> None:
    clip = open_clip(str(write_film(tmp_path / "in.mp4", pictures(4, 95, 63))))
    assert clip.size == (95, 63)
    out = tmp_path / "out.mp4"
    write_clip(clip, pictures(4, 95, 63), str(out))
    assert open_clip(str(out)).size == (96, 64)
    ((_, pixels),) = read_frames(open_clip(str(out)), 3, 4)
    assert psnr(pixels[:95, :63], pictures(4, 95, 63)[3]) > 30


def test_a_film_of_a_phone_that_was_held_upright(film: Path) -> None:
    turn(film)
    clip = open_clip(str(film))
    assert clip.size == (64, 96)
    ((_, pixels),) = read_frames(clip, 0, 1)
    assert psnr(pixels, np.rot90(pictures(1)[0], -1)) > 32


@pytest.mark.parametrize("data", [b"", b"no film at all", b"\0" * 5000])
def test_what_is_no_film_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "in.mp4"
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"in\.mp4: it cannot be read as a film") as caught:
        open_clip(str(file))
    assert caught.value.code == "video-invalid"


def test_a_film_that_is_cut_off_is_named_or_read_as_far_as_it_goes(film: Path, tmp_path: Path) -> None:
    whole, cut = film.read_bytes(), tmp_path / "cut.mp4"
    for share in (0.2, 0.5, 0.8, 0.99):
        cut.write_bytes(whole[: int(share * len(whole))])
        try:
            clip = open_clip(str(cut))
        except DataError:
            continue
        assert len(list(read_frames(clip, 0, len(clip.times)))) <= 30


def test_another_film_has_another_hash(film: Path, tmp_path: Path) -> None:
    other = write_film(tmp_path / "other.mp4", pictures(31))
    assert open_clip(str(film)).sha256() == open_clip(str(film)).sha256() != open_clip(str(other)).sha256()


def test_endings() -> None:
    with pytest.raises(ConfigError, match=r"'x\.gif' must end in \.mp4, \.mov, \.mkv, \.webm"):
        check_film_out("x.gif")


def test_without_av_the_extra_is_named(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install 'tryon\[video\]'"):
        open_clip(str(film))
