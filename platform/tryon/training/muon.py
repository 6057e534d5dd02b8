"""Muon: AdamW for vectors and output heads, orthogonalised momentum for the matrices between them.

After Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the scale of Liu et al. 2025 (arXiv 2502.16982) by
which an update is as large as AdamW's, so that a learning rate means the same to both halves. `torch.optim.Muon` takes
matrices alone, in bf16; here kernels of convolutions are matrices of (channels out, channels in x side x side) too.

Shape legend: r rows and c columns of a matrix, n the smaller of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

MIN_SIDE = 8  # a matrix with fewer rows or columns is a head, or looks at a handful of numbers: AdamW's
NS_STEPS = 5
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
RMS = 0.2  # of AdamW's usual update
ADAMW_SHARE = 0.2  # matrices bear a higher rate than vectors and heads do
EPS = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon on matrices and kernels, AdamW on what else there is.

    Args:
        groups: parameter groups; those with ``matrices`` true are Muon's.
        lr: of the matrices.
        momentum: of the matrices' gradients, Nesterov's.
        betas: of AdamW.
        adamw_share: AdamW's learning rate over `lr`.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        adamw_share: float = ADAMW_SHARE,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "betas": betas, "adamw_share": adamw_share, "weight_decay": 0.0,
            "matrices": False,
        }  # fmt: skip
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """See `torch.optim.Optimizer.step`."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if group["matrices"]:
                for weight in weights:
                    self._muon(weight, group)
            elif weights:
                self._adamw(weights, group)
        return loss

    def _muon(self, weight: Tensor, group: dict[str, Any]) -> None:
        state, grad = self.state[weight], weight.grad
        assert grad is not None
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(grad, 1 - group["momentum"])
        ahead = torch.lerp(grad, state["momentum"], group["momentum"])
        update = orthogonalized(ahead.reshape(len(ahead), -1))
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update.view(ahead.shape), alpha=-group["lr"] * RMS * max(update.shape) ** 0.5)

    def _adamw(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[weight] for weight in weights]
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), device=weight.device)
                state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        means, squares, steps = ([state[name] for state in states] for name in ("mean", "square", "step"))
        beta1, beta2 = group["betas"]
        adamw(
            weights, [weight.grad for weight in weights if weight.grad is not None], means, squares, [], steps,
            fused=True, amsgrad=False, beta1=beta1, beta2=beta2, lr=group["lr"] * group["adamw_share"],
            weight_decay=group["weight_decay"], eps=1e-8, maximize=False,
        )  # fmt: skip


def orthogonalized(matrix_rc: Tensor) -> Tensor:
    """About the nearest matrix (r, c) whose singular values are all 1: they end between 0.7 and 1.2.

    The quintic of Jordan et al., `NS_STEPS` times. A step multiplies by a polynomial of the Gram matrix, and the next
    Gram matrix follows from that, so steps cost n^3 and not n^2 max(r, c).
    """
    a, b, c = NS_COEFFICIENTS
    wide = matrix_rc.float()
    wide = wide if wide.shape[0] <= wide.shape[1] else wide.T
    wide = wide / wide.norm().clamp_min(EPS)
    gram = wide @ wide.T
    product: Tensor | None = None
    eye = a * torch.eye(len(gram), device=gram.device)
    for _ in range(NS_STEPS):
        factor = torch.addmm(eye + b * gram, gram, gram, alpha=c)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    assert product is not None
    out: Tensor = product @ wide
    return (out if matrix_rc.shape == out.shape else out.T).to(matrix_rc)


def is_matrix(weight: nn.Parameter) -> bool:
    """True for what Muon updates: matrices and dense kernels that map features to features."""
    return weight.ndim >= 2 and weight.shape[1] > 1 and min(weight.shape[0], weight[0].numel()) >= MIN_SIDE
