"""Parsers by the name a user gives them; light to import."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from tryon.config import StageSpec
from tryon.errors import ConfigError

PARSERS: Mapping[str, str] = {
    "geometric": "parse",
    "segformer": "parse_segformer",
    "schp": "parse_schp",
    "segment": "parse_segment",
}
WEIGHTS_OF: Mapping[str, str] = {
    "segformer": "a transformers semantic-segmentation checkpoint: folder, s3:// prefix or hub id such as owner/name",
    "schp": "a published SCHP checkpoint (.pth): path or s3://",
    "segment": "a bundle that `tryon train segment` wrote: folder or s3://",
}


def parser_spec(parser: str, weights: str | None = None, options: Mapping[str, Any] | None = None) -> StageSpec:
    """The parse stage of a pipeline.

    Weights are looked up here, once, and their sha256 goes into the options: so a run's config says what it ran, a
    rerun with other weights is another run, and no actor can work with others than its neighbours. Those of a hub id
    are downloaded if they are not in its cache.

    Args:
        parser: a key of `PARSERS`.
        weights: of a parser that has them.
        options: more arguments of the stage.

    Raises:
        ConfigError: unknown parser, a parser that needs weights without, or one that has none with them.
        StorageError: the weights do not exist.
        BundleError: the weights cannot be had or are incomplete.
    """
    if parser not in PARSERS:
        near = difflib.get_close_matches(parser, PARSERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        text = f"unknown parser {parser!r} (known: {', '.join(PARSERS)}){hint}"
        raise ConfigError(text, code="parser-unknown", field="--parser")
    given = dict(options or {})
    if parser not in WEIGHTS_OF:
        if weights is not None:
            text = f"the {parser} parser has no weights, {weights!r} was given: choose {' or '.join(WEIGHTS_OF)}"
            raise ConfigError(text, code="parser-weights", field="--parser-weights")
        return StageSpec(name=PARSERS[parser], options=given)
    if not weights:
        text = f"the {parser} parser needs weights: give --parser-weights, {WEIGHTS_OF[parser]}"
        raise ConfigError(text, code="parser-weights", field="--parser-weights")
    return StageSpec(name=PARSERS[parser], options={**_pinned(parser, weights, given), **given})


def _pinned(parser: str, weights: str, options: Mapping[str, Any]) -> dict[str, Any]:
    if parser == "segment":
        from tryon import storage
        from tryon.models.bundle import load_bundle
        from tryon.models.versions import pinned

        weights = pinned(storage.absolute(weights))
        return {"weights": weights, "sha256": load_bundle(weights).entry("parsing").sha256}
    from tryon.models.weights import absolute, digest, local_file, local_folder

    path = local_file(weights) if parser == "schp" else local_folder(weights, options.get("revision"))
    return {"weights": absolute(weights), "sha256": digest(path)}
