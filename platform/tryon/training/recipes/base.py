"""What a recipe is: everything about one training that is not the loop. Pure PyTorch, no Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from tryon.config import Config, parse_config
from tryon.errors import BundleError
from tryon.models.bundle import Bundle, Role
from tryon.models.losses import ssim_rows
from tryon.models.registry import build_network
from tryon.models.tensors import images_to_tensor, masks_to_tensor, worn_masks

Tensors = dict[str, Tensor]
Batches = Callable[[int], Iterable[Mapping[str, Any]]]  # epoch to batches of columns


@dataclass(frozen=True)
class StepOutput:
    """What one step gives back.

    Attributes:
        loss: scalar to minimise.
        parts: named parts of it, detached, for the log.
        generated: what `Recipe.critic_step` is to judge, detached; None without a critic.
    """

    loss: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    generated: Tensor | None = None


class Made(NamedTuple):
    """A network that a recipe has trained.

    Attributes:
        role: in the bundle.
        name: of the network in the registry.
        network: with its weights.
        config: the network's config.
    """

    role: Role
    name: str
    network: nn.Module
    config: Config


class NoOptions(Config):
    """A recipe without options of its own."""


class Recipe(ABC):
    """Fields, network, losses and figures of one training.

    Attributes:
        role: what the network does in a bundle.
        network_name: in the registry of networks.
        reads: fields each sample must have.
        optional: fields that are used where the data set has them.
        needs: roles the starting bundle must have; their networks are used frozen.
        options_class: the recipe's own options.
        best_metric: the figure checkpoints are kept by, with ``-`` in front where less is better; empty: the later.
        critic: a discriminator, trained beside the network by `critic_step`; None where there is none.
        prepare_draws: `prepare` draws from torch's generator, so it cannot run ahead of the step in a thread.
        shards: its trained weights are used in the network's own pass alone, so they can be sharded (FSDP).
    """

    role: ClassVar[Role]
    network_name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[Role, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}
    options_class: ClassVar[type[Config]] = NoOptions
    best_metric: ClassVar[str] = ""
    critic: nn.Module | None = None
    prepare_draws: bool = False
    shards: ClassVar[bool] = False

    def __init__(
        self,
        network_config: Mapping[str, Any],
        size: tuple[int, int],
        bundle: Bundle | None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Builds the network and takes the frozen ones from the bundle.

        Raises:
            BundleError: the bundle lacks a role in `needs`.
            ConfigError: an option that is unknown or out of bounds.
        """
        self.size = size
        self.options: Any = parse_config(self.options_class, options or {}, f"options of {type(self).__name__}")
        self.network = build_network(self.network_name, network_config)
        self.network_config: Config = self.network.config  # type: ignore[assignment]
        self.frozen: dict[str, nn.Module] = {}
        for role in self.needed_roles(options or {}):
            if bundle is None:
                text = f"this recipe builds on a trained {role} network: give --bundle, or train it first"
                raise BundleError(text, code="bundle-missing", field="--bundle")
            self.frozen[role] = bundle.network(role)[0]

    @classmethod
    def needed_fields(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Fields each sample must have: `reads`, unless the recipe's own options decide it.

        Raises:
            ConfigError: an option that is unknown or out of bounds.
        """
        del options
        return cls.reads

    @classmethod
    def optional_fields(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Fields that are used where the data set has them: `optional`, unless the recipe's own options decide it.

        Raises:
            ConfigError: an option that is unknown or out of bounds.
        """
        del options
        return cls.optional

    @classmethod
    def needed_roles(cls, options: Mapping[str, Any]) -> tuple[Role, ...]:
        """Roles the starting bundle must have: `needs`, unless the recipe's own options decide it.

        Raises:
            ConfigError: an option that is unknown or out of bounds.
        """
        del options
        return cls.needs

    @classmethod
    def goes_on(cls, options: Mapping[str, Any]) -> bool:
        """True where the run begins with the starting bundle's network of its role: then that decides the weights too.

        Raises:
            ConfigError: an option that is unknown or out of bounds.
        """
        del options
        return False

    def settled(self) -> Mapping[str, Mapping[str, Any]]:
        """Fields of the run's config (network, options) that name places, with those absolute and weights pinned.

        So that each worker, and a later run, starts from the same.
        """
        return {}

    @abstractmethod
    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        """Columns of a batch (lists of arrays at `size`) to CPU tensors, targets included."""

    @abstractmethod
    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        """Loss of one batch. `network` is `self.network`, perhaps wrapped (DDP)."""

    def made(self) -> tuple[Made, ...]:
        """What goes into the bundle: the network, or the parts of one that plays several roles."""
        return (Made(self.role, self.network_name, self.network, self.network_config),)

    def critic_step(self, tensors: Tensors, generated: Tensor) -> StepOutput:
        """Loss of the critic on one batch; called after `step` where `critic` is set."""
        raise NotImplementedError

    @abstractmethod
    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        """Predicted and true pictures, (b, 3, h, w) in [-1, 1], and per-sample figures (b,)."""


def network_to_go_on_from(bundle: Bundle | None, role: Role, words: tuple[str, str], *configs: Config) -> nn.Module:
    """A bundle's network that a run begins with.

    Args:
        bundle: the starting bundle, if there is one.
        role: of the network in it.
        words: what messages call it: trained, and with an article.
        configs: that it may have; the first is the run's own.

    Raises:
        BundleError: there is none, or it is of another kind or size.
    """
    if bundle is None:
        text = f"start = 'bundle' goes on from a trained {words[0]}: give --bundle, or train it first"
        raise BundleError(text, code="bundle-missing", field="--bundle")
    trained, _ = bundle.network(role)
    found = getattr(trained, "config", None)
    if found not in configs:
        text = f"bundle {bundle.uri} has {words[1]} of another kind: {found!r}, not {configs[0]!r}"
        raise BundleError(text, code="weights-mismatch", field="network")
    return trained


def worn_garment(batch: Mapping[str, Any], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The garment on the person, cut out by the parse: the paired truth of a warp.

    Returns:
        Person image (b, 3, h, w) in [-1, 1] and the visible garment's mask (b, 1, h, w).
    """
    return images_to_tensor(batch["person"], size), worn_masks(batch, size)


def optional_mask(batch: Mapping[str, Any], name: str, size: tuple[int, int]) -> Tensor | None:
    """A mask column as a tensor, or None where the data set has none."""
    column = batch.get(name)
    return None if column is None or column[0] is None else masks_to_tensor(column, size)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, dB; images in [-1, 1]."""
    mse = ((a - b) / 2).square().flatten(1).mean(1).clamp_min(1e-10)
    return -10 * torch.log10(mse)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each image, 1 for equal ones; images in [-1, 1], 11 px a side or more."""
    return ssim_rows(a, b)
