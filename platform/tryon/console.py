"""Where the verbs print: lines whole, however long, so that logs can be searched."""

from __future__ import annotations

from rich.console import Console

console = Console()


def say(text: str) -> None:
    """Prints a line as it is: no markup, and no line breaks of its own."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
