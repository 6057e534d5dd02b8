"""Triplets for the structural-correction module: garment, person, and a try-on image with faults.

Where the image comes from is drawn for each row: a bundle's try-on by batch inference, a reconstruction, or a fault
made in the worn garment. A reconstruction is the photo's by the bundle's autoencoder or VAE where it has one, else its
synthesis network's without the warp: in both all that is left of the garment came through a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tryon.config import Config
from tryon.data.augment.variant import Side, compose, side_size
from tryon.data.derived import (
    KIN_FIELDS,
    DerivedSource,
    require_fields,
    row_rng,
    with_kin,
    without_files,
)
from tryon.data.job import Job
from tryon.data.shards import Parent
from tryon.data.simulator.render import warp_by_flow
from tryon.data.sources.base import error_row
from tryon.data.triplets.faults import FaultConfig, FaultName, make_fault, shift, shift_field
from tryon.data.triplets.worn import worn_region
from tryon.errors import ConfigError, SampleError
from tryon.sample import CATEGORIES, Row

if TYPE_CHECKING:
    from tryon.data.triplets.renders import Renders

UInt8 = npt.NDArray[np.uint8]
NetworkMaker = Literal["bundle", "reconstruction"]
Maker = Literal[FaultName, NetworkMaker]
Weight = Annotated[float, Field(ge=0, le=1e6)]

MAKERS: tuple[Maker, ...] = (*get_args(FaultName), *get_args(NetworkMaker))
NETWORK_MAKERS: tuple[Maker, ...] = get_args(NetworkMaker)
NEEDED = (
    "id", "category", "person", "garment", "garment_mask", "agnostic", "agnostic_mask", "parse", "pose",
)  # fmt: skip
TOLD = ("split", "person_uri", "garment_uri")
CONTEXT = ("warped_garment", "warped_mask")
MADE = ("generated", "generated_by")
BATCH = 8  # rows a network is given at once
_Key = tuple[str, Maker, int]  # row, maker, which of the row's triplets where that makes a difference


class TripletsConfig(Config):
    """Where the faulty images of a triplet set come from."""

    bundle: str | None = Field(None, description="URI of a bundle with warp and synthesis; None: only made faults")
    weights: Mapping[Maker, Weight] | None = Field(
        None, description="how often each maker is drawn; None: all that can be had, a bundle's try-on for half"
    )
    per_sample: int = Field(1, ge=1, le=16, description="triplets of each sample")
    faults: FaultConfig = Field(default_factory=FaultConfig, description="how strong made faults are")
    context_shift: float = Field(
        0.006,
        ge=0,
        le=0.1,
        description="largest elastic shift of the warped garment where it is the true warp, share of the height; a "
        "network's warp is never exact, and one trained on an exact one would trust it blindly",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="same seed, same bytes")

    def odds(self) -> dict[Maker, float]:
        """The probability of each maker.

        Raises:
            ConfigError: no maker at all, or one that needs a bundle and there is none.
        """
        weights: dict[Maker, float] = dict.fromkeys(MAKERS[:4], 1.0)
        if self.weights is not None:
            weights = {maker: self.weights.get(maker, 0.0) for maker in MAKERS}
        elif self.bundle is not None:
            weights |= {"reconstruction": 1.0, "bundle": 5.0}
        wanted = [maker for maker in NETWORK_MAKERS if weights.get(maker, 0) > 0]
        if wanted and self.bundle is None:
            text = f"weights ask for {' and '.join(wanted)}, which takes a trained network: give --bundle"
            raise ConfigError(text, code="bundle-missing", field="--bundle")
        total = sum(weights.values())
        if total == 0:
            raise ConfigError(f"weights = {dict(weights)}: at least one must be above 0", code="config-invalid")
        return {maker: weight / total for maker, weight in weights.items() if weight > 0}


@dataclass(frozen=True)
class _Draw:
    """One triplet to make: of which row, which of its triplets, by what."""

    row: Row
    k: int
    maker: Maker
    rng: np.random.Generator


def open_renders(bundle: str) -> Renders:
    """A bundle's networks; PyTorch is imported only where there is a bundle."""
    from tryon.data.triplets.renders import Renders

    return Renders(bundle)


class TripletSource(DerivedSource):
    """The samples of a data set with a faulty try-on image each."""

    def __init__(self, uri: str, config: TripletsConfig) -> None:
        """Reads the manifest and checks that triplets can be made of it.

        Raises:
            ConfigError: the weights ask for what cannot be had.
            DataError: no data set, or one that lacks layers.
            BundleError: no such bundle, or it lacks a network.
        """
        super().__init__(uri, config.per_sample)
        self._config = config
        self._odds = config.odds()
        require_fields(uri, self.parent_fields, NEEDED, "triplets")
        self._renders = None if config.bundle is None else open_renders(config.bundle)
        if self._renders is not None and self._renders.data_licence != self.licence:
            self.licence = f"{self.licence}; images by a bundle trained on data under: {self._renders.data_licence}"
        self._has_context = self._renders is not None or "true_flow" in self.parent_fields
        context = CONTEXT if self._has_context else ()
        told = tuple(name for name in TOLD if name in self.parent_fields)
        self.written = (*NEEDED, *told, *KIN_FIELDS, *context, *MADE)
        self.fields = tuple(dict.fromkeys((*self.fields, *self.written)))

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The data set, and the bundle if there is one."""
        if self._renders is None:
            return (self.parent,)
        return self.parent, Parent(uri=self._renders.uri, sha256=self._renders.sha256)

    def derive_all(self, rows: Iterable[Row]) -> list[Row]:
        """Triplets of all rows, a network's batch at a time."""
        made: list[Row] = []
        stream = map(without_files, rows)
        while batch := list(islice(stream, BATCH)):
            made += self._derive_batch(batch)
        return made

    def derive(self, row: Row) -> Sequence[Row]:
        """Triplets of one row; one that cannot be made comes with the error fields set."""
        return self._derive_batch([without_files(row)])

    def _derive_batch(self, rows: Sequence[Row]) -> list[Row]:
        """Networks see only rows that are whole; the order is kept."""
        faults = [_fault_of(row) for row in rows]
        whole = [row for row, fault in zip(rows, faults, strict=True) if fault is None]
        if self._renders is not None and whole:
            whole = self._renders.warp(whole)
        draws = [self._draw(row, k) for row in whole for k in range(1, self._config.per_sample + 1)]
        images = self._render(draws)
        made = (self._finish(draw, images.get(self._key(draw))) for draw in draws)
        out: list[Row] = []
        for row, fault in zip(rows, faults, strict=True):
            if fault is None:
                out += islice(made, self._config.per_sample)
            else:
                out.append(error_row(row["id"], fault, fault.code, "source"))
        return out

    def _draw(self, row: Row, k: int) -> _Draw:
        rng = row_rng(self._config.seed, row["id"], "triplet", k)
        makers, odds = list(self._odds), list(self._odds.values())
        return _Draw(row, k, makers[int(rng.choice(len(makers), p=odds))], rng)

    def _render(self, draws: Sequence[_Draw]) -> dict[_Key, UInt8]:
        """The networks' images; one that would come out the same is made once however often it was drawn."""
        images: dict[_Key, UInt8] = {}
        for maker in NETWORK_MAKERS:
            asked = {self._key(draw): draw for draw in draws if draw.maker == maker}
            if asked:
                assert self._renders is not None
                seeds = [int(draw.rng.integers(2**63)) for draw in asked.values()]
                made = self._renders.tryon(maker, [draw.row for draw in asked.values()], seeds)
                images |= dict(zip(asked, made, strict=True))
        return images

    def _key(self, draw: _Draw) -> _Key:
        sampled = self._renders is not None and self._renders.samples(draw.maker)
        return draw.row["id"], draw.maker, draw.k if sampled else 0

    def _finish(self, draw: _Draw, image: UInt8 | None) -> Row:
        """One triplet; `image` is a network's, None where a fault is to be made."""
        row, row_id = draw.row, f"{draw.row['id']}#g{draw.k}"
        try:
            if image is None:
                image = faulty(row, draw.maker, self._config.faults, draw.rng)
            elif self._shows_garment_alone(draw.maker):
                image = compose(image, row["person"], worn_region(row))
            context = self._context(row, draw.rng)
        except SampleError as error:
            return error_row(row_id, error, error.code, "source")
        by = self._renders.name(draw.maker) if self._renders and draw.maker in NETWORK_MAKERS else draw.maker
        generated = compose(image, row["person"], row["agnostic_mask"])
        return {**with_kin(row), **context, "id": row_id, "generated": generated, "generated_by": by}

    def _shows_garment_alone(self, maker: Maker) -> bool:
        own = self._renders.reconstruction if self._renders else None
        return maker == "reconstruction" and own is not None and own.of_garments

    def _context(self, row: Row, rng: np.random.Generator) -> Row:
        """The warped garment: the bundle's, else the true warp a little astray, else none."""
        if self._renders is not None or not self._has_context:
            return {}
        if row.get("true_flow") is None:
            raise SampleError("the sample has no true flow, and no bundle was given to warp", code="layer-missing")
        height, width = row["true_flow"].shape[:2]
        cover = np.isfinite(row["true_flow"]).all(axis=-1).astype(np.uint8)
        astray = shift_field((height, width), rng.uniform(0, self._config.context_shift) * height, rng)
        garment = warp_by_flow(row["garment"], row["true_flow"], cover)
        return {"warped_garment": shift(garment, astray), "warped_mask": shift(cover * np.uint8(255), astray)}


def _fault_of(row: Row) -> SampleError | None:
    try:
        check_row(row)
    except SampleError as error:
        return error
    return None


def check_row(row: Row) -> None:
    """Makes sure that a triplet can be made of a row.

    Raises:
        SampleError: a layer is missing, the category is unknown, or layers differ in size.
    """
    missing = [name for name in NEEDED if row.get(name) is None]
    if missing:
        raise SampleError(f"the sample lacks {', '.join(missing)}", code="layer-missing")
    if row["category"] not in CATEGORIES:
        text = f"category {row['category']!r} is not one of {', '.join(CATEGORIES)}"
        raise SampleError(text, code="category-unknown")
    for side in (Side.PERSON, Side.GARMENT):
        side_size(row, side)


def faulty(row: Row, name: str, config: FaultConfig, rng: np.random.Generator) -> UInt8:
    """The person with a fault in the worn garment, the rest untouched.

    With a true flow the garment is laid on the person by it first, flat and unshaded as a try-on's warp is.

    Raises:
        SampleError: no worn garment shows.
    """
    region = worn_region(row)
    laid = row["person"]
    if row.get("true_flow") is not None:
        known = region * np.isfinite(row["true_flow"]).all(axis=-1)
        laid = compose(warp_by_flow(row["garment"], row["true_flow"], region), laid, known)
    return compose(make_fault(name, laid, config, rng), row["person"], region)


def triplets_job(uri: str, config: TripletsConfig) -> Job:
    """A job that writes triplets.

    Args:
        uri: of an annotated data set of paired samples: the person wears the garment.
        config: where the faulty images come from.

    Raises:
        ConfigError: the weights ask for what cannot be had.
        DataError: no data set, or one that lacks layers.
        BundleError: no such bundle, or it lacks a network.
    """
    source = TripletSource(uri, config)
    return Job(source, [], source.written, {"triplets": config.model_dump(mode="json")}, source.parents)
