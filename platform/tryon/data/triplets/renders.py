"""A bundle's warp, try-on and reconstruction over rows, for data jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tryon import storage
from tryon.data.triplets.reconstruct import Reconstruction, ReconstructPhoto
from tryon.errors import BundleError
from tryon.models.bundle import read_manifest
from tryon.models.versions import pinned
from tryon.sample import Row
from tryon.stages._region import Region
from tryon.stages.base import Stage
from tryon.stages.synthesize import Synthesize
from tryon.stages.warp import Warp

WARPED = ("warped_garment", "warped_mask")


class Reconstruct(Synthesize):
    """Synthesis without the warp pasted in: of the garment only what the network itself has drawn."""

    name = "reconstruct"

    def _full_warp(self, batch: Mapping[str, list[Any]], i: int, region: Region) -> None:
        """None is shown."""


MAKERS: Mapping[str, type[Synthesize]] = {"bundle": Synthesize, "reconstruction": Reconstruct}


class Renders:
    """What a bundle makes of annotated rows. Its networks are loaded where they are used, so this travels to actors.

    Attributes:
        uri: of the bundle, absolute.
        sha256: over the weights of the networks that are used.
        data_licence: of the data they were trained on.
        reconstruction: its network for that, or None: then it is the synthesis network's, without the warp.
    """

    def __init__(self, bundle: str) -> None:
        """Reads the bundle's manifest.

        Raises:
            BundleError: no such bundle, or it lacks warp or synthesis.
        """
        self.uri = pinned(storage.absolute(bundle))
        manifest = read_manifest(self.uri)
        lacking = [role for role in ("warp", "synthesis") if role not in manifest.networks]
        if lacking:
            text = f"bundle {bundle} has no {' and no '.join(lacking)} network, which triplets need"
            raise BundleError(text, code="bundle-incomplete", field="--bundle")
        digests = [manifest.networks["warp"].sha256, manifest.networks["synthesis"].sha256]
        self._name = f"warp-{digests[0][:12]}+synthesis-{digests[1][:12]}"
        self.reconstruction = Reconstruction.of(manifest)
        if self.reconstruction is not None:
            digests.append(self.reconstruction.sha256)
        self.sha256 = storage.sha256("\n".join(digests).encode())
        self.data_licence = manifest.data_licence

    def warp(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with `warped_garment` and `warped_mask`."""
        made = _stage(Warp, self.uri)(_columns(rows))
        return [{**row, **{name: made[name][i] for name in WARPED}} for i, row in enumerate(rows)]

    def name(self, maker: str) -> str:
        """Maker and networks, each by the start of its weights' hash."""
        own = self._own(maker)
        return f"{maker}:{own.name if own else self._name}"

    def samples(self, maker: str) -> bool:
        """True if each seed gives another image of the same row."""
        own = self._own(maker)
        return own is not None and own.samples

    def tryon(self, maker: str, rows: Sequence[Row], seeds: Sequence[int]) -> list[Any]:
        """The try-on image of each row, uint8 (H, W, 3).

        Args:
            maker: a key of `MAKERS`.
            rows: from `warp`.
            seeds: of each row, 0..2**63-1; see `samples`.
        """
        own = self._own(maker)
        if own is not None:
            columns = {"shown": [own.shown(row) for row in rows], "seed": list(seeds)}
            return list(_stage(ReconstructPhoto, self.uri)(columns)["tryon"])
        return list(_stage(MAKERS[maker], self.uri)(_columns(rows))["tryon"])

    def _own(self, maker: str) -> Reconstruction | None:
        return self.reconstruction if maker == "reconstruction" else None


@lru_cache(maxsize=8)
def _stage(cls: type[Stage], bundle: str) -> Stage:
    return cls(bundle)  # type: ignore[call-arg]


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    return {name: [row.get(name) for row in rows] for name in {*Warp.reads, *Synthesize.reads}}
