"""A person photo reconstructed by a bundle's autoencoder or VAE: its errors are of structure, not of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from tryon.data.augment.variant import compose
from tryon.data.triplets.worn import worn_mask
from tryon.errors import SampleError
from tryon.models.bundle import BundleManifest
from tryon.models.contract import Runnable
from tryon.models.device import autocast
from tryon.models.registry import network_class
from tryon.models.tensors import tensor_to_images
from tryon.models.vae import Vae
from tryon.sample import Row
from tryon.stages.network import NetworkStage

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Reconstruction:
    """A bundle's reconstruction network, as its manifest tells of it.

    Attributes:
        name: network and the start of its weights' hash.
        sha256: of its weights.
        samples: each seed gives another image.
        of_garments: it was trained on garment photos, so it is shown the worn garment alone, on white.
    """

    name: str
    sha256: str
    samples: bool
    of_garments: bool

    @classmethod
    def of(cls, manifest: BundleManifest) -> Reconstruction | None:
        """The bundle's; None where it has none."""
        entry = manifest.networks.get("reconstruction")
        if entry is None:
            return None
        options = entry.training.get("config", {}).get("options", {})
        return cls(
            name=f"{entry.network}-{entry.sha256[:12]}",
            sha256=entry.sha256,
            samples=issubclass(network_class(entry.network), Vae),
            of_garments=options.get("field") == "garment",
        )

    def shown(self, row: Row) -> UInt8:
        """What the network is given of a row, RGB (H, W, 3)."""
        person: UInt8 = row["person"]
        return compose(person, np.full_like(person, 255), worn_mask(row)) if self.of_garments else person


class ReconstructPhoto(NetworkStage):
    """Images through the bundle's reconstruction network, at its size; a VAE's latent is sampled by each row's seed.

    Reads ``shown``, as `Reconstruction.shown` gives it, and ``seed``; adds ``tryon``.
    """

    name = "reconstruct_photo"
    role = "reconstruction"
    reads = ("shown", "seed")
    adds = ("tryon",)

    @torch.inference_mode()
    def run_whole(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        """See `Stage`."""
        images = self._images(batch["shown"])
        with autocast(self._device):
            if isinstance(self._network, Vae):
                made = self._network.resample(images, [torch.Generator().manual_seed(seed) for seed in batch["seed"]])
            else:
                made = cast("Runnable", self._network).infer({"image": images})["reconstruction"]
        return [{"tryon": _at_size(made[i : i + 1], batch["shown"][i].shape[:2])} for i in range(num)]


def _at_size(image_1chw: torch.Tensor, size: tuple[int, int]) -> UInt8:
    """An image of a network, uint8 (H, W, 3)."""
    whole = F.interpolate(image_1chw.float(), size=size, mode="bilinear", align_corners=False)
    return np.asarray(tensor_to_images(whole)[0])
