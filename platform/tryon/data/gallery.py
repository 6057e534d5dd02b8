"""The simulator's gallery: one HTML file with samples of every category and what is known of each, nothing external."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.codec import encode_jpeg
from tryon.data.look.overlays import overlay_parse
from tryon.data.simulator import GarmentSpec, LowerSpec, SimulatorConfig, render, sample_specs
from tryon.data.simulator.config import DEFAULT
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.scene import SceneSpec
from tryon.sample import Row

UInt8 = npt.NDArray[np.uint8]
VIEWS = {
    "person": "person",
    "garment": "garment",
    "warped": "warped",
    "parse": "parse",
    "dense": "dense",
    "bare": "without it",
}
TITLES = {"upper": "Tops and open jackets", "lower": "Trousers, shorts and skirts", "dress": "Dresses"}
COUNTED = 600  # specifications that the table of shares is counted on: half a second
PAPER = 244
NUM_HERO = 8


def write_gallery(
    out: str, num: int = 24, size: tuple[int, int] = (512, 384), seed: int = 0, config: SimulatorConfig = DEFAULT
) -> int:
    """Draws samples of every category and writes them as one self-contained HTML file.

    Args:
        out: URI of the file.
        num: samples, shared evenly among the categories of `config`; at least one of each.
        size: (height, width) of the pictures, px.
        seed: of the samples; the same seed gives the same file.
        config: the simulator's knobs; its shares of categories only decide the table.

    Returns:
        Samples shown.

    Raises:
        ConfigError: the size is out of bounds.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape

    each = max(1, num // len(config.categories))
    # Each category starts at another index: the same index is the same person in all of them.
    starts = {name: 1000 * k for k, name in enumerate(config.categories)}
    groups = [_group(name, range(starts[name], starts[name] + each), size, seed, config) for name in starts]
    cards = [card for group in groups for card in group["cards"]]
    hero = [card["views"]["person"] for row in zip(*(g["cards"] for g in groups), strict=True) for card in row]
    environment = Environment(loader=PackageLoader("tryon.data"), autoescape=select_autoescape())
    html = environment.get_template("gallery.html.j2").render(
        groups=groups,
        hero=hero[:NUM_HERO],
        views=VIEWS,
        tables=_tables(seed, config),
        counted=COUNTED,
        size=size,
        seed=seed,
    )
    storage.write_bytes(out, html.encode())
    return len(cards)


def _group(name: Any, indices: range, size: tuple[int, int], seed: int, config: SimulatorConfig) -> dict[str, Any]:
    only = config.model_copy(update={"categories": (name,)})
    return {"name": name, "title": TITLES[name], "cards": [_card(seed, i, size, only) for i in indices]}


def _card(seed: int, index: int, size: tuple[int, int], config: SimulatorConfig) -> dict[str, Any]:
    figure, garment, scene = sample_specs(seed, index, config)
    row = render(figure, garment, scene, *size)
    views = {name: _data_uri(image) for name, image in pictures(row).items()}
    seen = int(row["true_mask"].sum()) / max(int(row["true_amodal_mask"].sum()), 1)
    return {"views": views, "title": garment_title(garment), "notes": notes(figure, garment, scene), "seen": seen}


def _data_uri(image: UInt8) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(image, 86)).decode()}"


def pictures(row: Row) -> Mapping[str, UInt8]:
    """The views of one sample, uint8 RGB (H, W, 3) each, by their names in `VIEWS`."""
    warped = np.full_like(row["true_garment"], PAPER)
    return {
        "person": row["person"],
        "garment": row["garment"],
        "warped": np.where(row["true_mask"][..., None] == 1, row["true_garment"], warped),
        "parse": overlay_parse(row["person"], row["parse"]),
        "dense": draw_dense(row["dense"], row["person"]),
        "bare": row["unoccluded_person"],
    }


def draw_dense(iuv: UInt8, person: UInt8) -> UInt8:
    """An IUV map as a picture: a hue a part, lighter along U, with lines of equal U and V, over the faded person.

    Args:
        iuv: uint8 (H, W, 3), as the field `dense`.
        person: uint8 (H, W, 3).
    """
    part, u, v = (iuv[..., c] for c in range(3))
    grid = np.minimum(u % 32, v % 32) < max(2, 768 // iuv.shape[0])
    hsv = np.empty_like(iuv)
    hsv[..., 0] = (part.astype(int) * 67) % 180
    hsv[..., 1] = 150
    hsv[..., 2] = np.where(grid, 95, 150 + u.astype(int) * 95 // 255)
    grey = cv2.cvtColor(cv2.cvtColor(person, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    faded = 190 + grey.astype(np.float32) * 0.22
    drawn = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
    return np.where(part[..., None] > 0, 0.88 * drawn + 0.12 * grey, faded).astype(np.uint8)


def garment_title(garment: GarmentSpec) -> str:
    """What a garment is, in a few words."""
    cloth = {"printed": "printed", "text": "lettered"}.get(garment.texture, garment.texture)
    if isinstance(garment, LowerSpec):
        return f"{cloth} {garment.cut} {garment.kind}"
    if garment.opening > 0:
        return f"{cloth} {'zip jacket' if garment.style == 'zip' else garment.style}, open"
    sleeve = "sleeveless" if garment.sleeve == "none" else f"{garment.sleeve} sleeves"
    kind = "dress" if garment.category == "dress" else {"shirt": "shirt"}.get(garment.style, "top")
    return f"{cloth} {kind}, {garment.neckline} neck, {sleeve}"


def notes(figure: FigureSpec, garment: GarmentSpec, scene: SceneSpec) -> list[str]:
    """What makes a sample hard: turn, hair, arms, layers, accessories, background."""
    outfit, out = figure.outfit, []
    if abs(figure.yaw) > 0.2:
        out.append(f"turned {abs(math.degrees(figure.yaw)):.0f}°")
    if figure.hair_style == "long-front":
        out.append("hair in front")
    if any(arm.in_front for arm in (figure.left_arm, figure.right_arm)):
        out.append("arm across")
    if outfit.jacket is not None and getattr(garment, "opening", 0) <= 0:
        out.append("under a jacket")
    worn = {"bag": outfit.bag, "scarf": outfit.scarf, "sunglasses": outfit.sunglasses, "hat": outfit.hat != "none"}
    out += [name for name, there in worn.items() if there]
    return [*out, f"{scene.background} background"]


def _tables(seed: int, config: SimulatorConfig) -> dict[str, list[tuple[str, float]]]:
    """Shares in the mix of `config`, counted on specifications alone."""
    specs = [sample_specs(seed, index, config) for index in range(COUNTED)]
    kinds = Counter(g.kind if isinstance(g, LowerSpec) else _kind(g.category, g.opening) for _, g, _ in specs)
    hard = Counter(note for triple in specs for note in _kinds_of(notes(*triple)))
    return {
        "garments": _shares(kinds),
        "cloth": _shares(Counter(g.texture for _, g, _ in specs)),
        "backgrounds": _shares(Counter(s.background for _, _, s in specs)),
        "occlusion and accessories": _shares(hard),
    }


def _kind(category: str, opening: float) -> str:
    return "dress" if category == "dress" else "open jacket" if opening > 0 else "top"


def _kinds_of(found: Sequence[str]) -> list[str]:
    return ["turned > 11°" if note.startswith("turned") else note for note in found if not note.endswith("background")]


def _shares(counts: Counter[str]) -> list[tuple[str, float]]:
    return [(name, count / COUNTED) for name, count in counts.most_common()]
