"""Garment extraction: person photo and mask of the worn garment to the garment alone, frontal, on white.

A U-Net with a ResNet as its way down and scSE attention on its way up (Roy et al. 2018, arXiv 1803.02579) whose skips
are un-warped: an anchor lays the person photo out, the coarse features say where in it each pixel of the garment photo
is seen, and all features are brought there before the way up joins them. So a print survives: it is sampled from the
person photo, once, at the photo's own size. What nobody sees is rendered.

Shape legend: b batch, h, w network size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.checks import check_condition
from tryon.models.contract import example_condition
from tryon.models.extract_layers import Unwarp, anchor_of, joints_in_frame, through_anchor
from tryon.models.flow_layers import enlarge_grid, resize_to, sample_features
from tryon.models.layers import identity_grid, sample_image
from tryon.models.network import Network
from tryon.models.resnet_encoder import Depth, ResNetEncoder
from tryon.models.tensors import LIMBS, limb_frames
from tryon.models.unet import UNetDecoder
from tryon.sample import CATEGORIES, NUM_JOINTS

CHANNELS = {"person": 3, "worn_mask": 1}
VECTORS = {"pose": (NUM_JOINTS, 3), "category": (len(CATEGORIES),)}
MULTIPLE = 16
MIN_SIDE = 48  # the coarsest features are then 2 px a side
WHITE = 1.0
SOURCE_CHANNELS = 4  # the worn garment on white, and its mask
LIMB_STRIDE = 8  # the limbs' frames are linear in the position: a mean of 8 x 8 px is exact


class ExtractConfig(Config):
    """Size of the extraction network. The default trains on a CPU."""

    depth: Depth = Field(18, description="of the ResNets, 18 or 34")
    width: int = Field(16, ge=4, le=128, description="channels of a ResNet's first stage; 64 as published")
    fused: int = Field(48, ge=8, le=512, multiple_of=4, description="channels in which the flow is worked out")
    flow_levels: int = Field(3, ge=1, le=4, description="levels of the flow, from 1/32 of the size on; 4 ends at 1/4")
    num_blocks: int = Field(1, ge=1, le=4, description="residual blocks a level on the way up")
    two_stage: bool = Field(False, description="a second U-Net corrects the first one's output, beside its source")


LARGE = ExtractConfig(depth=34, width=64, fused=192, flow_levels=4, num_blocks=2, two_stage=True)


class Plan(NamedTuple):
    """What the network predicts; `Extract.compose` makes a garment photo of it at any size.

    Attributes:
        anchor: (b, 3), see `extract_layers.anchor_of`.
        grids: sampling positions in the anchor's frame, coarse first: float32 (b, 2, h_i, w_i), x then y.
        tone: (b, 3, h / 2, w / 2), added to what is sampled: takes off light and folds.
        rendering: (b, 3, h, w) in [-1, 1], for what is not sampled.
        share: logits (b, 1, h, w) of what is sampled.
        mask: logits (b, 1, h, w) of the garment.
        correction: (b, 3, h, w) of the second U-Net, added in the end; None where there is none.
    """

    anchor: Tensor
    grids: tuple[Tensor, ...]
    tone: Tensor
    rendering: Tensor
    share: Tensor
    mask: Tensor
    correction: Tensor | None = None

    def row(self, i: int) -> Plan:
        """The plan of one sample, with a batch of 1."""
        rows = {name: value[i : i + 1] for name, value in self._asdict().items() if isinstance(value, Tensor)}
        return self._replace(grids=tuple(grid[i : i + 1] for grid in self.grids), **rows)


class Extraction(NamedTuple):
    """A garment photo and what it was made of, at one size.

    Attributes:
        garment: (b, 3, h, w) in [-1, 1], on white.
        garment_mask: (b, 1, h, w) in [0, 1].
        sampled: the person photo brought to the garment photo (b, 3, h, w).
        cover: (b, 1, h, w) in [0, 1]: where that shows the worn garment.
        share: (b, 1, h, w) in [0, 1], at most `cover`: how much of it `garment` takes.
    """

    garment: Tensor
    garment_mask: Tensor
    sampled: Tensor
    cover: Tensor
    share: Tensor


class ScSeUNet(nn.Module):
    """ResNet encoder, scSE decoder up to half the input's size."""

    def __init__(self, in_channels: int, config: ExtractConfig) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(in_channels, config.depth, config.width)
        # The finest features come with the pixels themselves, four to each: the ResNet's first convolution blurs them.
        self.finest = nn.Conv2d(config.width + 4 * in_channels, config.width, 1)
        self.decoder = UNetDecoder(self.encoder.widths, config.num_blocks)

    def forward(self, features: list[Tensor], pixels: Tensor) -> Tensor:
        """The way up: (b, width, h / 2, w / 2).

        Args:
            features: of the encoder, finest first, brought to where they are needed.
            pixels: (b, in_channels, h, w), brought there too.
        """
        finest = self.finest(torch.cat([features[0], F.pixel_unshuffle(pixels, 2).to(features[0].dtype)], dim=1))
        out: Tensor = self.decoder([finest, *features[1:]])
        return out


class SecondStage(nn.Module):
    """The second U-Net: the first one's output joined with its source, to a correction."""

    def __init__(self, config: ExtractConfig) -> None:
        super().__init__()
        self.unet = ScSeUNet(3 + 1 + SOURCE_CHANNELS, config)
        self.head = nn.Conv2d(config.width, 4 * 4, 3, padding=1)
        nn.init.zeros_(self.head.weight)  # a trained first U-Net goes on where it was
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, first: Extraction) -> tuple[Tensor, Tensor]:
        """Corrections of the picture (b, 3, h, w) and of the mask's logits (b, 1, h, w)."""
        seen = torch.cat([first.garment, first.garment_mask, first.sampled, first.cover], dim=1)
        out = self.head(self.unet(self.unet.encoder(seen), seen))
        picture, mask = torch.split(F.pixel_shuffle(out, 2).float(), [3, 1], dim=1)
        return picture, mask


class Extract(Network):
    """The garment that a person wears, as a photo of its own."""

    config_class = ExtractConfig
    role = "extraction"
    checked_masks = ("worn_mask",)

    def __init__(self, config: ExtractConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = ScSeUNet(SOURCE_CHANNELS, config)
        widths = self.unet.encoder.widths[: -1 - config.flow_levels : -1]
        self.unwarp = Unwarp(widths, 2 * len(LIMBS), len(CATEGORIES) + 3 * NUM_JOINTS, config.fused)
        self.tone = nn.Conv2d(config.width, 3, 3, padding=1)
        self.head = nn.Conv2d(config.width, 4 * 5, 3, padding=1)  # rendering, share and mask of four pixels
        # The four pixels of a block begin alike: what is rendered has no chequered pattern to unlearn.
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.head.weight.data = self.head.weight.data[::4].repeat_interleave(4, dim=0)
        nn.init.zeros_(self.tone.weight)
        nn.init.zeros_(self.tone.bias)  # type: ignore[arg-type]
        self.second = SecondStage(config) if config.two_stage else None

    def forward(self, condition: dict[str, Tensor]) -> Plan:
        """Predicts what a garment photo is made of.

        Args:
            condition: of `tryon.models.tensors.extraction_condition`: person (b, 3, h, w) in [-1, 1], worn_mask
                (b, 1, h, w) in [0, 1], pose (b, 25, 3) px, category (b, 3). Height and width multiples of 16.

        Raises:
            ValueError: of `check_condition`.
        """
        check_condition(
            condition, CHANNELS, vectors=VECTORS, multiple=MULTIPLE, least=MIN_SIDE, masks=self.checked_masks
        )
        person, worn = condition["person"], condition["worn_mask"]
        anchor = anchor_of(worn)
        source = laid_out(person, worn, anchor)
        features = self.unet.encoder(source)
        grids = self._unwarp(condition, anchor, features)
        brought = [sample_features(f, resize_to(grids[-1], f)).to(f.dtype) for f in features]
        x = self.unet(brought, sample_image(source, enlarge_grid(grids[-1], (source.shape[-2], source.shape[-1]))))
        rendering, share, mask = torch.split(F.pixel_shuffle(self.head(x), 2).float(), [3, 1, 1], dim=1)
        rendering = torch.tanh(rendering + torch.atanh(mean_colour(source).clamp(-0.95, 0.95)))
        plan = Plan(anchor, grids, self.tone(x).float(), rendering, share, mask)
        if self.second is None:
            return plan
        correction, mask_change = self.second(self.compose(plan, person, worn))
        return plan._replace(correction=correction, mask=mask + mask_change)

    def _unwarp(self, condition: dict[str, Tensor], anchor: Tensor, features: list[Tensor]) -> tuple[Tensor, ...]:
        h, w = condition["person"].shape[-2:]
        limbs = limb_frames(condition["pose"], (h, w), LIMB_STRIDE)
        place = identity_grid(limbs.shape[-2], limbs.shape[-1]).to(limbs.device).expand(limbs.shape[0], -1, -1, -1)
        limbs = sample_image(limbs, through_anchor(place, anchor))
        told = torch.cat([condition["category"], joints_in_frame(condition["pose"], anchor, (h, w))], dim=1)
        return tuple(self.unwarp(features[: -1 - self.config.flow_levels : -1], limbs, told))

    @staticmethod
    def compose(plan: Plan, person: Tensor, worn_mask: Tensor) -> Extraction:
        """The garment photo at the person photo's size, which may be another than the network's.

        Args:
            plan: of `forward`.
            person: (b, 3, h, w) in [-1, 1].
            worn_mask: (b, 1, h, w) in [0, 1].
        """
        grid = through_anchor(enlarge_grid(plan.grids[-1], (person.shape[-2], person.shape[-1])), plan.anchor)
        sampled, cover = sample_image(person, grid), sample_image(worn_mask, grid, padding="zeros")
        share = torch.sigmoid(resize_to(plan.share, person)) * cover
        garment = share * (sampled + resize_to(plan.tone, person)) + (1 - share) * resize_to(plan.rendering, person)
        if plan.correction is not None:
            garment = garment + resize_to(plan.correction, person)
        mask = torch.sigmoid(resize_to(plan.mask, person))
        return Extraction(mask * garment.clamp(-1, 1) + WHITE * (1 - mask), mask, sampled, cover, share)

    def extract(self, condition: dict[str, Tensor]) -> Extraction:
        """Predicts and composes at the network's size."""
        return self.compose(self(condition), condition["person"], condition["worn_mask"])

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        made = example_condition(("agnostic", "garment_mask", "pose", "category"), batch, height, width)
        smooth = F.interpolate(F.avg_pool2d(made.pop("agnostic"), 16) * 8, size=(height, width), mode="bilinear")
        return {"person": smooth.clamp(-1, 1), "worn_mask": made.pop("garment_mask"), **made}

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`extract` on named tensors: garment, garment_mask."""
        made = self.extract(inputs)
        return {"garment": made.garment, "garment_mask": made.garment_mask}


def laid_out(person: Tensor, worn_mask: Tensor, anchor: Tensor) -> Tensor:
    """The worn garment on white as the anchor lays it out, and its mask: (b, 4, h, w)."""
    place = identity_grid(person.shape[-2], person.shape[-1]).to(person.device)
    grid = through_anchor(place.expand(person.shape[0], -1, -1, -1), anchor)
    picture, mask = sample_image(person, grid), sample_image(worn_mask, grid, padding="zeros")
    return torch.cat([picture * mask + WHITE * (1 - mask), mask], dim=1)


def mean_colour(source: Tensor) -> Tensor:
    """Mean of what is worn (b, 3, 1, 1) in a `laid_out` source: what is rendered begins with it."""
    picture, mask = source[:, :3].float(), source[:, 3:].float()
    worn = (picture - WHITE * (1 - mask)).sum((2, 3), keepdim=True)
    return worn / mask.sum((2, 3), keepdim=True).clamp_min(1e-6)
