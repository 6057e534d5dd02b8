"""Prior preservation: images of the class that the samples belong to, from a folder or made by the base itself."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from tryon import storage
from tryon.config import Config
from tryon.data.sources.base import PHOTO_SUFFIXES
from tryon.errors import DataError
from tryon.images import decode_photo, letterbox
from tryon.models.bundle import place
from tryon.models.device import autocast
from tryon.models.inpaint import Inpaint, InpaintConfig
from tryon.models.tensors import images_to_tensor

MADE_AT_ONCE = 4


class Prior(Config):
    """What is learnt beside the samples, so that the words keep their meaning."""

    weight: float = Field(1.0, ge=0, le=100, description="of its error in the loss")
    prompt: str | None = Field(None, description="of its images; None: 'a photo of a garment' (or person)")
    images: str | None = Field(None, description="URI of a folder with its images; None: the base makes them")
    num_images: int = Field(32, ge=1, le=10_000, description="that are made, or taken from the folder")


def prior_images(
    config: InpaintConfig, prior: Prior, prompt: str, size: tuple[int, int], device: torch.device
) -> Tensor:
    """Images of the class.

    Args:
        config: of the network that is trained; its base makes the images.
        prior: how many, and where from.
        prompt: that the base is asked for.
        size: (height, width) px.
        device: to make them on.

    Returns:
        float32 (n, 3, h, w) in [-1, 1], on the CPU.

    Raises:
        DataError: the folder holds no photo.
        ImageError: a photo in it cannot be used.
    """
    if prior.images is None:
        return _made(config, prior.num_images, prompt, size, device)
    uris = storage.list_files(prior.images, PHOTO_SUFFIXES)[: prior.num_images]
    if not uris:
        text = f"prior.images = {prior.images!r} holds no photo ({', '.join(PHOTO_SUFFIXES)})"
        raise DataError(text, code="data-empty", field="options")
    photos = [decode_photo(storage.read_bytes(uri), uri).pixels for uri in uris]
    return images_to_tensor([letterbox(photo, *size)[0] for photo in photos], size)


@torch.no_grad()
def _made(config: InpaintConfig, num: int, prompt: str, size: tuple[int, int], device: torch.device) -> Tensor:
    """A fresh copy of the base, whatever the network has learnt by now, paints the whole picture."""
    with torch.random.fork_rng():
        base = Inpaint(config).eval()
    place(base, device)
    generator = torch.Generator().manual_seed(config.sampling.seed)
    blank = torch.zeros(1, 3, *size, device=device)
    made = []
    with autocast(device):
        mask, masked = base.masked_latents(blank, torch.ones_like(blank[:, :1]))
        for start in range(0, num, MADE_AT_ONCE):
            rows = min(MADE_AT_ONCE, num - start)
            noise = torch.randn(rows, *masked.shape[1:], generator=generator).to(device)
            told = (mask.expand(rows, -1, -1, -1), masked.expand(rows, -1, -1, -1))
            made.append(base.decode(base.paint(*told, [prompt] * rows, noise, config.sampling)).cpu())
    return torch.cat(made)
