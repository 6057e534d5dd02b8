"""Which files make up a checkpoint that somebody else trained: a transformers folder, a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True)
class Layout:
    """What of a checkpoint's folder matters: patterns of names relative to it, `*` within one level.

    Attributes:
        what: of the checkpoint, for messages.
        needed: files that must be there.
        optional: configs that are taken where they are.
        safe: weights without code in them.
        old: pickled weights, taken for a level of the folder where it has no safe ones.
        example: a file of weights, for messages.
    """

    what: str
    needed: tuple[str, ...]
    optional: tuple[str, ...]
    safe: tuple[str, ...]
    old: tuple[str, ...]
    example: str

    @property
    def deep(self) -> bool:
        """True if it has sub-folders."""
        return any("/" in name for name in self.needed)

    def wanted(self, names: Iterable[str]) -> list[str]:
        """Those of the names that matter, sorted."""
        held = sorted(names)
        safe = {name for name in held if _matches(name, self.safe)}
        levels = {name.rpartition("/")[0] for name in safe}
        old = {name for name in held if _matches(name, self.old) and name.rpartition("/")[0] not in levels}
        return [name for name in held if name in safe | old or _matches(name, (*self.needed, *self.optional))]

    def bare(self, names: Iterable[str]) -> str | None:
        """The first level that has a config but no weights; None where each has."""
        held = self.wanted(names)
        armed = {name.rpartition("/")[0] for name in held if _matches(name, (*self.safe, *self.old))}
        levels = [name.rpartition("/")[0] for name in held if name.rpartition("/")[2] == "config.json"]
        return next((level or "." for level in levels if level not in armed), None)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(name.count("/") == pattern.count("/") and fnmatch(name, pattern) for pattern in patterns)


def _of_parts(parts: Iterable[str], stem: str, ending: str) -> tuple[str, ...]:
    """Whole and sharded weights of a diffusers pipeline's parts, but not its variants (`stem.fp16.safetensors`)."""
    forms = (f"{stem}.{ending}", f"{stem}-?????-of-?????.{ending}", f"{stem}.{ending}.index.json")
    return tuple(f"{part}/{form}" for part in parts for form in forms)


TRANSFORMERS = Layout(
    what="transformers checkpoint with an image processor",
    needed=("config.json", "preprocessor_config.json"),
    optional=(),
    safe=("*.safetensors", "*.safetensors.index.json"),
    old=("pytorch_model*.bin", "pytorch_model*.bin.index.json"),
    example="model.safetensors",
)
DIFFUSERS = Layout(
    what="diffusers pipeline",
    needed=("model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"),
    optional=("text_encoder/config.json", "tokenizer/*.json", "tokenizer/merges.txt"),
    safe=(
        *_of_parts(("unet", "vae"), "diffusion_pytorch_model", "safetensors"),
        *_of_parts(("text_encoder",), "model", "safetensors"),
    ),
    old=(
        *_of_parts(("unet", "vae"), "diffusion_pytorch_model", "bin"),
        *_of_parts(("text_encoder",), "pytorch_model", "bin"),
    ),
    example="unet/diffusion_pytorch_model.safetensors",
)
AUTOENCODER_KL = Layout(
    what="diffusers AutoencoderKL",
    needed=("config.json",),
    optional=(),
    safe=("diffusion_pytorch_model.safetensors",),
    old=("diffusion_pytorch_model.bin",),
    example="diffusion_pytorch_model.safetensors",
)
