"""The Inception v3 that FID, KID and IS are measured with (Szegedy et al. 2015, arXiv 1512.00567; Heusel et al. 2017,
arXiv 1706.08500): TensorFlow's classifier of 2015, ported.

It is not torchvision's: it has 1008 classes, leaves the border out of its average pools, and takes the largest value
instead of the average in its last block. Parameter names are those of the file that is published for PyTorch
(``pt_inception-2015-12-05-6726825d.pth``), so that loads strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.errors import BundleError, StorageError
from tryon.models.state_dict import load_strictly, read_state

NUM_FEATURES = 2048
NUM_CLASSES = 1008
SIDE_PX = 299
Side = int | tuple[int, int]
ROW_3, COLUMN_3 = ((1, 3), (0, 1)), ((3, 1), (1, 0))  # kernel and padding
ROW_7, COLUMN_7 = ((1, 7), (0, 3)), ((7, 1), (3, 0))
RESIZE = f"bilinear without antialiasing, to {SIDE_PX}x{SIDE_PX}"
STEPS = "num_batches_tracked"
WHICH_FILE = (
    "FID, KID and IS need TensorFlow's Inception of 2015 as ported to PyTorch "
    "(pt_inception-2015-12-05-6726825d.pth, or a .safetensors file with the same names)"
)


class InceptionOutput(NamedTuple):
    """What the metrics are computed from.

    Attributes:
        features: float32 (b, 2048), >= 0: FID and KID.
        logits: float32 (b, 1008), without the bias: IS.
    """

    features: Tensor
    logits: Tensor


class Inception(nn.Module):
    """Images to features and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = ShrinkA(288)
        self.Mixed_6b = BlockB(128)
        self.Mixed_6c = BlockB(160)
        self.Mixed_6d = BlockB(160)
        self.Mixed_6e = BlockB(192)
        self.Mixed_7a = ShrinkB(768)
        self.Mixed_7b = BlockC(1280, largest=False)
        self.Mixed_7c = BlockC(2048, largest=True)
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def forward(self, images: Tensor) -> InceptionOutput:
        """Features and logits of images.

        Args:
            images: RGB (b, 3, h, w) in [-1, 1], of any size: resized as `RESIZE` says, without keeping the aspect.

        Raises:
            ValueError: no RGB images.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images are {tuple(images.shape)}: (batch, 3, height, width) is needed")
        x = F.interpolate(images, size=(SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        features = x.mean(dim=(2, 3))
        return InceptionOutput(features, F.linear(features, self.fc.weight))


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, in_channels: int, channels: int, kernel: Side, padding: Side = 0, *, stride: int = 1
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) to (b, channels, h', w')."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class BlockA(nn.Module):
    """35x35: 1x1, 5x5, two 3x3, and a pooled branch."""

    def __init__(self, in_channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(in_channels, 64, 1)
        self.branch5x5_1 = ConvNorm(in_channels, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvNorm(in_channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, padding=1)
        self.branch_pool = ConvNorm(in_channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) to (b, 224 + pooled, h, w)."""
        fives = self.branch5x5_2(self.branch5x5_1(x))
        threes = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), fives, threes, self.branch_pool(_average(x))], dim=1)


class ShrinkA(nn.Module):
    """35x35 to 17x17."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(in_channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvNorm(in_channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) to (b, 480 + in_channels, (h - 1) / 2, (w - 1) / 2)."""
        threes = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), threes, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockB(nn.Module):
    """17x17: 7x7 in two and in four strips, 1x1, and a pooled branch; 768 channels in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(768, 192, 1)
        self.branch7x7_1 = ConvNorm(768, width, 1)
        self.branch7x7_2 = ConvNorm(width, width, *ROW_7)
        self.branch7x7_3 = ConvNorm(width, 192, *COLUMN_7)
        self.branch7x7dbl_1 = ConvNorm(768, width, 1)
        self.branch7x7dbl_2 = ConvNorm(width, width, *COLUMN_7)
        self.branch7x7dbl_3 = ConvNorm(width, width, *ROW_7)
        self.branch7x7dbl_4 = ConvNorm(width, width, *COLUMN_7)
        self.branch7x7dbl_5 = ConvNorm(width, 192, *ROW_7)
        self.branch_pool = ConvNorm(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 768, h, w) to the same shape."""
        sevens = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = x
        for i in range(1, 6):
            double = self.get_submodule(f"branch7x7dbl_{i}")(double)
        return torch.cat([self.branch1x1(x), sevens, double, self.branch_pool(_average(x))], dim=1)


class ShrinkB(nn.Module):
    """17x17 to 8x8."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(in_channels, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvNorm(in_channels, 192, 1)
        self.branch7x7x3_2 = ConvNorm(192, 192, *ROW_7)
        self.branch7x7x3_3 = ConvNorm(192, 192, *COLUMN_7)
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) to (b, 512 + in_channels, (h - 1) / 2, (w - 1) / 2)."""
        threes = self.branch3x3_2(self.branch3x3_1(x))
        sevens = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([threes, self.branch7x7x3_4(sevens), F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockC(nn.Module):
    """8x8: branches that end in a row and a column side by side; 2048 channels out.

    Args:
        in_channels: of the input.
        largest: whether the pooled branch takes the largest value or the average.
    """

    def __init__(self, in_channels: int, *, largest: bool) -> None:
        super().__init__()
        self.largest = largest
        self.branch1x1 = ConvNorm(in_channels, 320, 1)
        self.branch3x3_1 = ConvNorm(in_channels, 384, 1)
        self.branch3x3_2a = ConvNorm(384, 384, *ROW_3)
        self.branch3x3_2b = ConvNorm(384, 384, *COLUMN_3)
        self.branch3x3dbl_1 = ConvNorm(in_channels, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvNorm(384, 384, *ROW_3)
        self.branch3x3dbl_3b = ConvNorm(384, 384, *COLUMN_3)
        self.branch_pool = ConvNorm(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) to (b, 2048, h, w)."""
        one = self.branch3x3_1(x)
        two = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.largest else _average(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(one), self.branch3x3_2b(one)]
        return torch.cat([*parts, self.branch3x3dbl_3a(two), self.branch3x3dbl_3b(two), self.branch_pool(pooled)], 1)


def load_inception(checkpoint: str | Path | Mapping[str, Tensor]) -> Inception:
    """The network with published weights, frozen, in eval mode, float32, on the CPU.

    Args:
        checkpoint: URI of the file (.pth or .safetensors), or the state dict.

    Raises:
        BundleError: missing, damaged, or of another network; the message names the first wrong key and the right file.
    """
    name = "the state dict" if isinstance(checkpoint, Mapping) else str(checkpoint)
    with torch.device("meta"):
        network = Inception()
    # Batch norm's counters, which decide nothing, are in some files and not in others.
    counters = {key: torch.zeros((), dtype=torch.long) for key in network.state_dict() if key.endswith(STEPS)}
    try:
        state = {**counters, **read_state(checkpoint)}
        load_strictly(network, state, name, "the Inception of FID")
    except (BundleError, StorageError) as error:
        raise BundleError(f"{error.message}; {WHICH_FILE}", code=error.code, field="weights") from error
    return network.eval().requires_grad_(False)


def _average(x: Tensor) -> Tensor:
    """Average over 3x3, of fewer at the border."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
