"""The verbs that try on: a photo, a film; and the other way, from a photo to its garment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Optional

import typer

from tryon.cli_data import ActorsOption, BundleOption
from tryon.errors import ConfigError

UrlOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--url", help="Of a service that is to do it (`tryon serve`), e.g. http://127.0.0.1:8000."),
]
KeyOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--key", envvar="TRYON_KEY", help="API key for --url, where the service has keys."),
]
BackendOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="What runs the networks: eager (PyTorch), compile (torch.compile), onnx or int8 (a bundle of "
        "`tryon models optimize`), or auto: what is there and fastest on this machine."
    ),
]


def infer(
    person: Annotated[Path, typer.Option(help="Photo of one person.")],
    out: Annotated[Path, typer.Option(help="File to write: .png (lossless) or .jpg.")],
    garment: Annotated[Optional[Path], typer.Option(help="Photo of the garment alone.")] = None,  # noqa: UP045
    garment_from: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="In place of --garment: photo of a person who wears it."),
    ] = None,
    category: Annotated[str, typer.Option(help="upper, lower or dress.")] = "upper",
    bundle: BundleOption = None,
    layers: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Also write pose, parse, agnostic, warped garment ... into this folder."),
    ] = None,
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Steps of a diffusion network's solver; this and the next three are for those networks."),
    ] = None,
    solver: Annotated[Optional[str], typer.Option(help="ddim, dpm++, unipc; lcm: of a distilled network.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(help="Of the noise: another seed, another picture.")] = None,  # noqa: UP045
    guidance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="How much the garment counts beyond what the network learnt; 1: no more."),
    ] = None,
    backend: BackendOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Try a garment on a person: two photos in, one photo out.

    Example: tryon infer --person me.jpg --garment shirt.jpg --out me-in-shirt.png
    or, with what a friend wears: tryon infer --person me.jpg --garment-from friend.jpg --out me-in-shirt.png
    or, by a service: tryon infer --url http://127.0.0.1:8000 --person me.jpg --garment shirt.jpg --out me-in-shirt.png
    """
    if (garment is None) == (garment_from is None):
        text = "give either --garment, a photo of the garment, or --garment-from, a photo of a person who wears it"
        raise ConfigError(text, code="option-invalid", field="--garment")
    told = {"steps": steps, "solver": solver, "seed": seed, "guidance": guidance}
    sampling = {name: value for name, value in told.items() if value is not None}
    if url is not None:
        from tryon.remote import infer_by_service

        here = {"--garment-from": garment_from, "--bundle": bundle, "--layers": layers, "--backend": backend}
        _refuse_with_url({**here, **{f"--{name}": value for name, value in told.items()}})
        assert garment is not None
        infer_by_service(url, key, person, garment, out, category=category)
    elif garment is not None:
        from tryon.infer import infer_files

        infer_files(
            person, garment, out, category=category, bundle=bundle, layers=layers, sampling=sampling, backend=backend
        )
    elif garment_from is not None:
        from tryon.extract_photo import infer_from_person

        infer_from_person(
            person, garment_from, out, category=category, bundle=bundle, layers=layers, sampling=sampling,
            backend=backend,
        )  # fmt: skip


def _refuse_with_url(options: Mapping[str, object]) -> None:
    """Refuses options that are for a network in this process.

    Raises:
        ConfigError: one was told.
    """
    told = [name for name, value in options.items() if value is not None]
    if told:
        text = f"{told[0]} does not go with --url: the service has its own bundle"
        raise ConfigError(text, code="option-invalid", field=told[0])


def extract(
    person: Annotated[Path, typer.Option(help="Photo of one person.")],
    out: Annotated[Path, typer.Option(help="File to write: .png (lossless) or .jpg.")],
    category: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="upper, lower or dress. Default: what is worn most plainly."),
    ] = None,
    bundle: BundleOption = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="HEIGHTxWIDTH px of the garment photo. Default: the bundle's working size."),
    ] = None,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Make a photo of the garment alone, frontal and on white, from a photo of the person who wears it.

    Example: tryon extract --person me.jpg --out shirt.png
    """
    if url is not None:
        from tryon.remote import extract_by_service

        _refuse_with_url({"--bundle": bundle, "--size": size})
        extract_by_service(url, key, person, out, category=category)
        return
    from tryon.config import parse_size
    from tryon.extract_photo import extract_files

    extract_files(person, out, category=category, bundle=bundle, size=parse_size(size) if size else None)


def video(
    film: Annotated[str, typer.Argument(metavar="IN", help="Film of one person: .mp4, .mov, .mkv, .webm; s3:// too.")],
    garment: Annotated[str, typer.Option(help="Photo of the garment alone.")],
    out: Annotated[str, typer.Option(help="Film to write: .mp4, .mov, .mkv or .webm.")],
    category: Annotated[str, typer.Option(help="upper, lower or dress.")] = "upper",
    bundle: BundleOption = None,
    every: Annotated[
        int, typer.Option(min=1, max=25, help="The warp is predicted for each so many-th frame, and lies between.")
    ] = 2,
    actors: ActorsOption = None,
) -> None:
    """Try a garment on the person of a film. Poses and warps are smoothed in time; times and sound stay.

    Frames that show nobody stay as they are. A run that was cut off goes on: what it has made lies in OUT-work.

    Example: tryon video in.mp4 --garment shirt.jpg --out out.mp4
    """
    from tryon.show_video import video_shown

    video_shown(film, garment, out, category=category, bundle=bundle, every=every, num_actors=actors)
