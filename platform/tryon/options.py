"""Options from a YAML file and `--set key=value` pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tryon.errors import ConfigError


def read_options(file: Path | None, pairs: Sequence[str]) -> dict[str, Any]:
    """Options of a run; pairs win over the file, and values are read as YAML.

    Args:
        file: YAML mapping, or None.
        pairs: ``key=value``; dots go into nested options (``network.width=32``).

    Raises:
        ConfigError: no such file, not a mapping, or a pair without ``=`` or whose value is no YAML.
    """
    options: dict[str, Any] = {}
    if file is not None:
        options = _read_file(file)
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set {pair!r} is not KEY=VALUE", code="option-invalid", field="--set")
        read = _read_value(pair, value)
        try:
            put(options, key, read)
        except ConfigError as error:
            raise ConfigError(f"--set {pair!r}: {error.message}", code=error.code, field="--set") from error
    return options


def put(options: dict[str, Any], key: str, value: Any) -> None:
    """Sets an option in place; dots in its key go into nested ones.

    Raises:
        ConfigError: what the key goes through has a value of its own.
    """
    *parents, last = key.split(".")
    for parent in parents:
        inner = options.get(parent, {})
        if not isinstance(inner, Mapping):
            text = f"{parent} is {inner!r} already, which has no options of its own"
            raise ConfigError(text, code="option-invalid", field=key)
        options[parent] = dict(inner)  # a copy: what was given stays as it is
        options = options[parent]
    options[last] = value


def dotted(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same options flat, those of nested mappings under ``outer.inner``."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _read_value(pair: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {pair!r}: the value is no YAML", code="option-invalid", field="--set") from error


def _read_file(file: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {file}: {error.strerror}", code="config-missing", field="--config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--config {file} is no YAML: {reason}", code="config-invalid", field="--config") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"--config {file} must be a mapping of options", code="config-invalid", field="--config")
    return loaded
