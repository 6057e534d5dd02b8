"""Recipe `extract`: the worn garment as a photo of its own, which is the garment photo with its background white."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from tryon import storage
from tryon.config import Config, parse_config
from tryon.models.bundle import Bundle, Role
from tryon.models.extract import SOURCE_CHANNELS, WHITE, Extract, Extraction, Plan, laid_out
from tryon.models.extract_layers import anchor_of
from tryon.models.flow_layers import resize_to
from tryon.models.losses import PerceptualConfig, PerceptualLoss, discriminator_loss, generator_loss, masked_l1
from tryon.models.patch_gan import PatchGan, PatchGanConfig
from tryon.models.resnet_encoder import encoder_digest
from tryon.models.tensors import EXTRACTION_READS, extraction_condition, images_to_tensor, masks_to_tensor
from tryon.models.weights import is_hub_id
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, network_to_go_on_from, psnr, ssim
from tryon.training.recipes.extract_flow import FLOW_STRIDE, FLOW_WEIGHTS, crop_and_paste, flow_error_px, flow_losses
from tryon.training.recipes.gmm import flow_to_grid
from tryon.training.recipes.mirror import perhaps_mirrored

WEIGHTS: Mapping[str, float] = {"rendering": 0.5, "share": 0.3, "mask": 2.0, **FLOW_WEIGHTS}
DOUBT = 3.0  # what is sampled is trusted to e^-1 where its colour is off by a third of half the range


class ExtractOptions(Config):
    """What a run begins with and what counts as near the garment photo."""

    start: Literal["random", "bundle"] = Field(
        "random", description="bundle: go on from the extraction network of the starting bundle, for a later phase"
    )
    encoder: str | None = Field(None, description="published ResNet to begin with: folder, s3:// or hub id; null: none")
    encoder_sha256: str | None = Field(None, description="of its files; filled in when the run is checked")
    l1: float = Field(1.0, ge=0, le=1e4, description="weight of the mean absolute difference")
    ssim: float = Field(1.0, ge=0, le=1e4, description="weight of 1 - SSIM; 0 leaves it out")
    perceptual: float = Field(0.1, ge=0, le=1e4, description="weight of the perceptual loss; 0 leaves it out")
    features: PerceptualConfig = Field(
        PerceptualConfig(layers=("relu1_2", "relu2_2", "relu3_2")), description="what the perceptual loss sees"
    )
    gan: Literal["none", "lsgan", "hinge", "log"] = Field("none", description="adversarial loss of a PatchGAN")
    gan_weight: float = Field(0.05, gt=0, le=1e4, description="weight of it")
    gan_width: int = Field(16, ge=4, le=256, description="channels of the PatchGAN; 64 in its paper")
    gan_halvings: int = Field(3, ge=1, le=5, description="of the PatchGAN; 3 judge patches of 70 px")

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.start == "bundle" and self.encoder is not None:
            raise ValueError("start = 'bundle' brings an encoder, so `encoder` must be left out")
        return self


class ExtractRecipe(Recipe):
    """L1, SSIM and perceptual loss of the garment photo, the flow's own losses, and where asked for a PatchGAN.

    The phases of a long training are runs of their own into one bundle: without a critic, then with one
    (``start: bundle, gan: lsgan``), then with the second U-Net (``start: bundle`` and the network's ``two_stage``).
    """

    role: ClassVar[Role] = "extraction"
    network_name = "extract"
    reads = (*EXTRACTION_READS, "garment", "garment_mask")
    optional = ("true_flow",)
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-3}
    options_class: ClassVar[type[Config]] = ExtractOptions

    def __init__(
        self,
        network_config: Mapping[str, Any],
        size: tuple[int, int],
        bundle: Bundle | None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """As `Recipe`, and brings the network to where the run begins.

        Raises:
            BundleError: the bundle has no extraction network to go on from or one of another size; weights are
                missing or are other ones.
            ConfigError: of `Recipe`, or VGG19 without weights.
        """
        super().__init__(network_config, size, bundle, options)
        told: ExtractOptions = self.options
        assert isinstance(self.network, Extract)
        if told.start == "bundle":
            go_on_from(self.network, bundle)
        if told.encoder is not None:
            self.network.unet.encoder.load_published(told.encoder, told.encoder_sha256)
        if told.perceptual > 0:
            self.frozen["perceptual"] = PerceptualLoss(told.features)
        if told.gan != "none":
            critic = {"width": told.gan_width, "num_halvings": told.gan_halvings}
            self.critic = PatchGan(PatchGanConfig(condition_channels=SOURCE_CHANNELS, image_channels=3, **critic))

    @classmethod
    def goes_on(cls, options: Mapping[str, Any]) -> bool:
        told: ExtractOptions = parse_config(ExtractOptions, options, f"options of {cls.__name__}")
        return told.start == "bundle"

    def settled(self) -> Mapping[str, Mapping[str, Any]]:
        told: ExtractOptions = self.options
        if told.encoder is None:
            return super().settled()
        place = told.encoder if is_hub_id(told.encoder) else storage.absolute(told.encoder)
        pinned = {"encoder": place, "encoder_sha256": encoder_digest(told.encoder)}
        return {**super().settled(), "options": {**told.model_dump(mode="json"), **pinned}}

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        tensors = extraction_condition(batch, self.size)
        mask = masks_to_tensor(batch["garment_mask"], self.size)
        tensors["garment_mask"] = mask
        tensors["garment"] = images_to_tensor(batch["garment"], self.size) * mask + WHITE * (1 - mask)
        flows = batch.get("true_flow")
        if flows is not None and flows[0] is not None:
            grid, valid = flow_to_grid(np.stack(flows))
            valid = valid * (tensors["worn_mask"] > 0.5)
            every = slice(None, None, FLOW_STRIDE)
            tensors["true_grid"], tensors["true_valid"] = grid[..., every, every], valid[..., every, every]
        return tensors

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        tensors = perhaps_mirrored(tensors)
        plan: Plan = network(tensors)
        made = Extract.compose(plan, tensors["person"], tensors["worn_mask"])
        parts = {**self._picture_losses(made, tensors), **part_losses(plan, made, tensors)}
        parts |= flow_losses(plan, tensors)
        told: ExtractOptions = self.options
        weights = {**WEIGHTS, "l1": told.l1, "ssim": told.ssim, "perceptual": told.perceptual, "gan": told.gan_weight}
        generated = None
        if self.critic is not None:
            assert told.gan != "none"
            condition = seen_by_critic(tensors)
            parts["gan"] = generator_loss(self.critic(condition, made.garment), told.gan)
            generated = torch.cat([condition, tensors["garment"], made.garment.detach()], dim=1)
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()}, generated)

    def critic_step(self, tensors: Tensors, generated: Tensor) -> StepOutput:
        """`generated` has condition and real photo too, mirrored as the generated one is."""
        del tensors
        assert self.critic is not None
        condition, real, fake = generated.split([SOURCE_CHANNELS, 3, 3], dim=1)  # type: ignore[no-untyped-call]
        scores = self.critic(condition, real), self.critic(condition, fake)
        loss = discriminator_loss(*scores, self.options.gan)
        return StepOutput(loss, {"real": scores[0].detach().mean(), "fake": scores[1].detach().mean()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        plan: Plan = network(tensors)
        made = Extract.compose(plan, tensors["person"], tensors["worn_mask"])
        truth, found, mask = tensors["garment"], made.garment_mask > 0.5, tensors["garment_mask"] > 0.5
        figures = {
            "val_ssim": ssim(made.garment, truth),
            "val_psnr": psnr(made.garment, truth),
            "val_mask_iou": (found & mask).flatten(1).sum(1) / (found | mask).flatten(1).sum(1).clamp_min(1),
            "val_ssim_paste": ssim(crop_and_paste(tensors), truth),
        }
        if "true_grid" in tensors:
            figures["val_flow_epe_px"] = flow_error_px(plan, tensors)
        return {"garment": made.garment, "truth": truth}, figures

    def _picture_losses(self, made: Extraction, tensors: Tensors) -> Tensors:
        truth = tensors["garment"]
        # By the garment's share of the photo: white on white would dilute it.
        parts = {"l1": F.l1_loss(made.garment, truth) / tensors["garment_mask"].mean().clamp_min(1e-2)}
        if self.options.ssim > 0:
            parts["ssim"] = 1 - ssim(made.garment, truth).mean()
        if self.options.perceptual > 0:
            parts["perceptual"] = self.frozen["perceptual"](made.garment, truth)
        return parts


def part_losses(plan: Plan, made: Extraction, tensors: Tensors) -> Tensors:
    """Losses of what the photo is composed of: rendering, share of what is sampled, mask."""
    truth, mask = tensors["garment"], tensors["garment_mask"]
    with torch.no_grad():  # to be shown where its colour is right: not the open jacket above the garment
        sampled = made.sampled + resize_to(plan.tone, made.sampled)
        # Of the colour around, since a print that lies a few px off is still a print.
        error = box_mean(sampled - truth, 9).abs().mean(1, keepdim=True)
        right = made.cover * mask * torch.exp(-DOUBT * error)
    return {
        "rendering": masked_l1(plan.rendering, truth, mask),
        "share": F.l1_loss(made.share, right) / mask.mean().clamp_min(1e-2),
        "mask": F.binary_cross_entropy_with_logits(plan.mask, mask),
    }


def box_mean(x: Tensor, side: int) -> Tensor:
    """Mean over a square of `side` px (odd) around each pixel, outside counted as 0; one axis after the other."""
    rows = F.avg_pool2d(x, (side, 1), stride=1, padding=(side // 2, 0))
    return F.avg_pool2d(rows, (1, side), stride=1, padding=(0, side // 2))


def seen_by_critic(tensors: Tensors) -> Tensor:
    """What a garment photo was made from (b, 4, h, w), where the anchor lays it out."""
    return laid_out(tensors["person"], tensors["worn_mask"], anchor_of(tensors["worn_mask"]))


def go_on_from(network: Extract, bundle: Bundle | None) -> None:
    """Takes over the weights of a bundle's extraction network; the second U-Net may be new.

    Raises:
        BundleError: there is none, or it is of another kind or size.
    """
    own = network.config
    words = ("extraction network", "an extraction network")
    trained = network_to_go_on_from(bundle, "extraction", words, own, own.model_copy(update={"two_stage": False}))
    network.load_state_dict(trained.state_dict(), strict=trained.config == own)  # else the second U-Net is new
