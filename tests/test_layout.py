"""The tree itself: the standard library's `platform` wins, imports are light and point one way."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "platform" / "tryon"
HEAVY = ("torch", "ray", "mediapipe", "cv2", "pyarrow")
# Lowest first. A module may import from its own layer and from those below it.
LAYERS = (
    ("__init__", "errors", "sample", "config", "storage", "listing", "options", "codec", "images", "write_once",
     "smoothing"),
    ("charts", "curves", "parallel", "page", "console"),
    ("models",),
    ("stages",),
    ("engines", "measured"),
    ("data", "training", "evaluation"),
    ("video",),
    ("serving", "client"),  # which share the bodies of the API
    (
        "show", "show_data", "show_models", "show_plan", "show_runs", "show_registry", "show_tune", "infer",
        "extract_photo", "demo", "submit", "doctor", "cli", "cli_data", "cli_look", "cli_runs", "cli_models",
        "cli_tune", "cli_bench", "show_bench", "show_day", "cli_keys", "show_keys", "remote",
        "cli_tryon", "show_video",
    ),
)  # fmt: skip
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def python(code: str, cwd: Path = ROOT, **env: str) -> str:
    """Output of a fresh interpreter that starts in a folder, whose first path entry is that folder."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={**clean, **env}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_standard_platform_module_wins_in_the_checkout() -> None:
    shown = python("import sys, platform; print(sys.path[0] == '', platform.system(), platform.__file__)")
    first, system, file = shown.split(" ", 2)
    assert first == "True"
    assert system == "Linux"
    assert not Path(file).is_relative_to(ROOT / "platform")


def test_the_source_root_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert (ROOT / "platform" / "tryon" / "__init__.py").exists()


@pytest.mark.parametrize("module", ["tryon", "tryon.cli", "tryon.errors", "tryon.config", "tryon.client"])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(code, PYTHONPATH=str(ROOT / "platform")) == "[]"


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module_level_imports(tree: ast.Module) -> Iterator[str]:
    """Absolute names of what is imported when the module is, `if TYPE_CHECKING` left out."""
    queue: list[ast.stmt] = list(tree.body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "tryon")
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            queue += [*node.body, *node.orelse]
        elif isinstance(node, ast.Try | ast.With):
            queue += node.body


def test_every_module_has_a_layer() -> None:
    assert {layer_of(path) for path in modules()} <= set(RANK)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    own = RANK[layer_of(path)]
    names = [
        name.split(".")[1] for name in module_level_imports(ast.parse(path.read_text())) if name.startswith("tryon.")
    ]
    upwards = sorted({name for name in names if name in RANK and RANK[name] > own})
    assert not upwards, f"{path.name} imports from a higher layer: {upwards}"


def test_the_walk_over_imports_finds_them() -> None:
    source = "import tryon.cli\nfrom tryon import demo\nif x:\n    from tryon.serving.run import y\n"
    source += "def f():\n    import ray\n"
    found = set(module_level_imports(ast.parse(source)))
    assert {"tryon.cli", "tryon.demo", "tryon.serving.run"} <= found
    assert "ray" not in found
