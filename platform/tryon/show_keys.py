"""What the verbs of `tryon keys` show, as a table or as JSON on standard output alone."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from tryon.console import console
from tryon.serving.keys import Key, create_key, read_keys, revoke_key
from tryon.serving.limits import Rule


def created_shown(uri: str, name: str, scopes: list[str], *, days: float | None, rule: Rule, as_json: bool) -> None:
    """Makes a key and prints it: alone on standard output, so that a script can keep it; the rest on standard error."""
    token, key = create_key(uri, name, scopes, days=days, rule=rule)
    if as_json:
        _print(json.dumps({"key": token, **_told(key)}, indent=2))
        return
    _print(token)
    said = f"{key.id} for {key.name}: {', '.join(key.scopes)}; in {uri}. This is the only time it is shown."
    print(said, file=sys.stderr)  # noqa: T201


def list_shown(uri: str, *, as_json: bool) -> None:
    """Prints the keys of a file."""
    keys = read_keys(uri)
    if as_json:
        _print(json.dumps([_told(key) for key in keys], indent=2))
        return
    table = Table(title=uri)
    for column in ("key", "name", "scopes", "state", "made", "expires", "a minute", "at once"):
        table.add_column(column, overflow="fold", no_wrap=column in ("key", "state", "made", "expires"))
    for key in keys:
        table.add_row(
            key.shown, key.name, ", ".join(key.scopes), _state(key), f"{key.created_at:%Y-%m-%d}",
            f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "-", _rate(key.rule), str(key.rule.concurrency or "-"),
        )  # fmt: skip
    console.print(table)


def revoked_shown(uri: str, which: str) -> None:
    """Revokes a key and says so."""
    key = revoke_key(uri, which)
    _print(f"{key.shown} of {key.name} is revoked")


def _told(key: Key) -> dict[str, Any]:
    return {"state": _state(key), **key.model_dump(mode="json", exclude={"hash", "salt"})}


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "valid"


def _rate(rule: Rule) -> str:
    return "-" if rule.rate_per_min is None else f"{rule.rate_per_min:g}, {rule.capacity} at a time"


def _print(text: str) -> None:
    print(text)  # noqa: T201
