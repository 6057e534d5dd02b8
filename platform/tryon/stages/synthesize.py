"""Synthesize: agnostic person and warped garment to the try-on image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch

from tryon.config import Backend, parse_config
from tryon.errors import BundleError, ConfigError, SampleError
from tryon.models.bundle import load_bundle
from tryon.models.contract import SampledSynthesis, needs_warp
from tryon.models.device import autocast
from tryon.models.sampling import Sampling, Solver
from tryon.models.tensors import CONDITION_READS
from tryon.sample import Row
from tryon.stages._region import Region, paint
from tryon.stages.network import NetworkStage

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


class Synthesize(NetworkStage):
    """Renders at the network's size, composes with the garment at the image's own size."""

    name = "synthesize"
    role = "synthesis"
    reads: ClassVar[tuple[str, ...]] = (*CONDITION_READS, "warped_garment", "warped_mask")
    optional = ("sampling_seed", "sampling_steps")
    adds = ("tryon", "composition_mask")

    def __init__(
        self,
        bundle: str,
        *,
        backend: Backend = "auto",
        steps: int | None = None,
        solver: Solver | None = None,
        seed: int | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
    ) -> None:
        """Loads the network.

        Args:
            bundle: URI.
            backend: of `NetworkStage`.
            steps: of the solver; these five are for a network that samples, None takes its own value.
            solver: ddim, dpm++, unipc, or lcm for a network that was distilled.
            seed: of the noise; one seed, one picture.
            guidance: scale of classifier-free guidance, 1: none.
            temperature: share of the noise that a picture starts from, 0 to 1.

        Raises:
            BundleError: no such bundle, or it lacks the network.
            ConfigError: a value out of bounds, or one is given and the network does not sample.
        """
        super().__init__(bundle, backend=backend)
        told: dict[str, Any] = {"steps": steps, "solver": solver, "seed": seed}
        told |= {"guidance_scale": guidance, "temperature": temperature}
        given = {name: value for name, value in told.items() if value is not None}
        self._sampling = self._sampling_of(bundle, given) if given else None

    @torch.inference_mode()
    def run_whole(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        """Rows that are sampled alike go through the network together."""
        ways = [self._way(batch["sampling_seed"][i], batch["sampling_steps"][i]) for i in range(num)]
        made: dict[int, Row | SampleError] = {i: way for i, way in enumerate(ways) if isinstance(way, SampleError)}
        for way in dict.fromkeys(way for way in ways if not isinstance(way, SampleError)):
            alike = [i for i in range(num) if ways[i] == way]
            part = {name: [column[i] for i in alike] for name, column in batch.items()}
            made |= zip(alike, self._run_alike(part, len(alike), way), strict=True)
        return [made[i] for i in range(num)]

    def _way(self, seed: float | None, steps: float | None) -> Sampling | SampleError | None:
        """How a row is sampled; None: as the network does by itself."""
        given = {name: int(value) for name, value in (("seed", seed), ("steps", steps)) if value is not None}
        if not given:
            return self._sampling
        network = self._network
        if not isinstance(network, SampledSynthesis):
            text = f"the synthesis network makes its picture in one pass, without {' and '.join(given)}"
            return SampleError(text, code="option-unused", field="options")
        return Sampling(**{**(self._sampling or network.sampling).model_dump(), **given})

    def _run_alike(self, batch: Mapping[str, list[Any]], num: int, sampling: Sampling | None) -> list[Row]:
        inputs = self._condition(batch)
        warped, warped_mask = self._warp(batch)
        out = self._synthesize(inputs, warped, warped_mask, sampling)
        # Where the warp covers, the share of it that shows; so that the full-size mask keeps the warp's own edge.
        share = (out["composition_mask"] / warped_mask.clamp_min(1e-3)).clamp(0, 1)
        rendering = out["rendering"].float().clamp(-1, 1).add(1).mul(127.5).permute(0, 2, 3, 1)
        shares, renderings = share[:, 0].float().cpu().numpy(), rendering.contiguous().cpu().numpy()
        return [self._compose_one(batch, i, renderings[i], shares[i]) for i in range(num)]

    def _warp(self, batch: Mapping[str, list[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Warped garment (b, 3, h, w) and its mask (b, 1, h, w) at the network's size."""
        return self._images(batch["warped_garment"]), self._masks(batch["warped_mask"], top=255.0)

    def _sampling_of(self, bundle: str, given: Mapping[str, Any]) -> Sampling:
        """The network's own way of sampling with the caller's values in it."""
        network = self._network
        if not isinstance(network, SampledSynthesis):
            name = load_bundle(bundle).manifest.networks[self.role].network
            text = f"{', '.join(given)}: the bundle's synthesis network, {name}, makes its picture in one pass"
            raise ConfigError(f"{text}; only a diffusion network is sampled", code="option-unused", field="sampling")
        return parse_config(Sampling, {**network.sampling.model_dump(), **given}, "options of synthesize")

    def _synthesize(
        self,
        inputs: dict[str, torch.Tensor],
        warped: torch.Tensor,
        warped_mask: torch.Tensor,
        sampling: Sampling | None,
    ) -> dict[str, torch.Tensor]:
        if sampling is None:
            return self.runner({**inputs, "warped": warped, "warped_mask": warped_mask})
        with autocast(self._device):
            return cast("SampledSynthesis", self._network).synthesize(inputs, warped, warped_mask, sampling)

    def _compose_one(self, batch: Mapping[str, list[Any]], i: int, rendering: Float32, share: Float32) -> Row:
        """At the image's own size, in the agnostic mask's box: the warp where its share shows, else the rendering."""
        tryon, mask = batch["agnostic"][i].copy(), batch["agnostic_mask"][i]
        size, region = tryon.shape[:2], Region.around(mask)
        shown = np.zeros(size, dtype=np.uint8)
        if not region.is_empty:
            made = region.enlarged(rendering, size)
            warp = self._full_warp(batch, i, region)
            if warp is not None:
                alpha = region.enlarged(share, size)
                alpha *= warp[1].astype(np.float32) / 255
                made += alpha[..., None] * (warp[0] - made)
                region.of(shown)[:] = np.rint(alpha * 255)
            paint(tryon, region, mask, made)
        return {"tryon": tryon, "composition_mask": shown}

    def _full_warp(self, batch: Mapping[str, list[Any]], i: int, region: Region) -> tuple[UInt8, UInt8] | None:
        """Warped garment and its mask of a row, at their own size in a region; None: there is none."""
        return region.of(batch["warped_garment"][i]), region.of(batch["warped_mask"][i])


class SynthesizeUnwarped(Synthesize):
    """The same for a network that needs no warp: it looks at the garment photo itself, or has learnt the garment."""

    name = "synthesize_unwarped"
    reads: ClassVar[tuple[str, ...]] = CONDITION_READS

    def __init__(self, bundle: str, **options: Any) -> None:
        """See `Synthesize`.

        Raises:
            BundleError: also of a network that needs a warp.
        """
        super().__init__(bundle, **options)
        if needs_warp(self._network):
            text = f"the synthesis network of bundle {bundle} needs a warp: run the stage 'synthesize'"
            raise BundleError(text, code="bundle-stage", field="bundle")

    def _warp(self, batch: Mapping[str, list[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        """An empty warp: nothing of it is shown."""
        num = len(batch["agnostic"])
        garment, mask = (torch.zeros(num, channels, *self._size, device=self._device) for channels in (3, 1))
        return garment, mask

    def _full_warp(self, batch: Mapping[str, list[Any]], i: int, region: Region) -> None:
        """None."""
