"""Pages of the reference that are written from the code when the site is built: commands, configuration, metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from typer.cli import get_docs_for_click

CONFIGS = (
    "tryon.data.synth:SynthConfig",
    "tryon.data.simulator.config:SimulatorConfig",
    "tryon.data.annotate:AnnotateConfig",
    "tryon.data.unwarp:UnwarpConfig",
    "tryon.training.config:TrainConfig",
    "tryon.training.plan:Plan",
    "tryon.training.tune.space:SearchConfig",
    "tryon.evaluation.config:EvaluateConfig",
    "tryon.serving.config:ServeConfig",
    "tryon.serving.config:GroupConfig",
    "tryon.serving.config:AutoscalingConfig",
    "tryon.serving.config:FetchConfig",
    "tryon.serving.jobs.config:JobsConfig",
    "tryon.serving.bench.day:DayConfig",
)
METRICS = {
    "Service": "tryon.serving.metrics",
    "Data jobs": "tryon.engines.metrics",
    "Training": "tryon.training.metrics",
}


def commands() -> str:
    """All verbs with their options, from the program's own help."""
    from tryon.cli import app

    command: Any = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="tryon"), name="tryon")
    text = re.sub(r"^# .*$", "", text, count=1, flags=re.MULTILINE)
    return text.replace("<str>", "TEXT")


def configuration() -> str:
    """A table a configuration: fields, defaults, what they are."""
    parts = []
    for place in CONFIGS:
        module, _, name = place.partition(":")
        model: type[BaseModel] = getattr(__import__(module, fromlist=[name]), name)
        lines = [f"## {name}", "", (model.__doc__ or "").strip().splitlines()[0], "", f"`{module}`", ""]
        lines += ["| field | default | what |", "|---|---|---|"]
        for key, field in model.model_fields.items():
            default = "needed" if field.is_required() else f"`{_shown(field.get_default(call_default_factory=True))}`"
            lines.append(f"| `{key}` | {default} | {(field.description or '').replace('|', chr(92) + '|')} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _shown(value: Any) -> str:
    text = type(value).__name__ if isinstance(value, BaseModel) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def metrics() -> str:
    """The tables that the modules have which count."""
    parts = []
    for title, module in METRICS.items():
        counted = import_module(module)
        parts.append(f"## {title}\n\n" + (counted.__doc__ or "").split("\n\n", 1)[1].strip())
    return "\n\n".join(parts)


WRITTEN: Mapping[str, Callable[[], str]] = {
    "reference/cli.md": commands,
    "reference/config.md": configuration,
    "reference/metrics.md": metrics,
}


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts what is written from the code behind what the page says itself."""
    del config, files
    write = WRITTEN.get(page.file.src_uri)
    return markdown if write is None else f"{markdown.rstrip()}\n\n{write()}\n"
