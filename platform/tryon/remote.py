"""`tryon infer --url` and `tryon extract --url`: the same by a service, without loading a network here."""

from __future__ import annotations

from pathlib import Path

from tryon import storage
from tryon.client import Client
from tryon.client.replies import Made
from tryon.console import say
from tryon.infer import check_category, check_out, say_notices


def infer_by_service(url: str, key: str | None, person: Path, garment: Path, out: Path, *, category: str) -> None:
    """Sends two photos to a service, writes the try-on, and says what was done.

    Args:
        url: of the service.
        key: API key, where it has keys.
        person: photo of one person.
        garment: photo of the garment.
        out: file to write, ``.png``, ``.jpg`` or ``.jpeg``.
        category: upper, lower or dress.

    Raises:
        ServiceError: the service refuses the photos, is busy, or does not answer.
        TryonError: a file or an option cannot be used.
    """
    check_out(out)
    check_category(category)
    with Client(url, key=key) as client:
        _keep(client.tryon(person, garment, category=category, output_format=_format(out)), out)


def extract_by_service(url: str, key: str | None, person: Path, out: Path, *, category: str | None) -> None:
    """Sends a person photo to a service, writes the photo of the garment, and says what was done.

    Args:
        url: of the service.
        key: API key, where it has keys.
        person: photo of one person.
        out: file to write, ``.png``, ``.jpg`` or ``.jpeg``.
        category: upper, lower or dress; None: the garment that is worn most plainly.

    Raises:
        ServiceError, TryonError: see `infer_by_service`.
    """
    check_out(out)
    if category is not None:
        check_category(category)
    with Client(url, key=key) as client:
        _keep(client.extract(person, category=category, output_format=_format(out)), out)


def _format(out: Path) -> str:
    """The API's word for a file's format; `check_out` has seen to its name."""
    return "png" if out.suffix.lower() == ".png" else "jpeg"


def _keep(made: Made, out: Path) -> None:
    storage.write_bytes(str(out), made.image)
    say_notices(*made.notices)
    width, height = made.size
    say(f"{out}: {width}x{height} px in {made.seconds:.1f} s")
