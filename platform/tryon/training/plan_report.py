"""A plan's page: what the bundle was worth after each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tryon.training.plan import Done

FIGURES = ("ssim", "ms_ssim", "psnr", "vif")


def plan_page(title: str, done: Sequence[Done], total: int) -> str:
    """The page of a plan, as HTML.

    Args:
        title: of the plan.
        done: its steps so far.
        total: how many it has.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("tryon.training"), autoescape=True)
    figures = [name for name in FIGURES if any(name in step.measured for step in done)]
    return environment.get_template("plan.html.j2").render(
        title=title or "Training plan", done=done, total=total, figures=figures, changes=ssim_changes(done)
    )


def ssim_changes(done: Sequence[Done]) -> list[float | None]:
    """By how much each step changed the bundle's SSIM; None where it, or no step before it, was measured."""
    changes: list[float | None] = []
    last: float | None = None
    for step in done:
        ssim = step.measured.get("ssim")
        changes.append(None if ssim is None or last is None else ssim - last)
        last = last if ssim is None else ssim
    return changes
