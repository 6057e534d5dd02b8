"""The pipeline of a service's config without the service: what its overhead is measured against, and its peers run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tryon.config import Backend
from tryon.engines.cluster import physical_cpus
from tryon.engines.in_process import Pipeline
from tryon.sample import Batch
from tryon.serving.api import TryOnOptions
from tryon.serving.bench.inputs import Pair
from tryon.serving.config import DEFAULT_GROUPS, GroupConfig, ServeConfig
from tryon.serving.graph import TRYON, plan_groups
from tryon.serving.group import Call, StageGroup
from tryon.serving.threads import computing_thread
from tryon.stages.registry import build_stage

FUSED = GroupConfig(name="all", stages=tuple(name for group in DEFAULT_GROUPS for name in group.stages))
OPTIONS = TryOnOptions()


def tryon_pipeline(bundle: str, backend: Backend = "auto") -> Pipeline:
    """The stages of a try-on as a service has them, in this thread."""
    (plan,) = plan_groups(ServeConfig(bundle=bundle, backend=backend, groups=(FUSED,)))
    part = plan.parts[TRYON.name]
    return Pipeline([build_stage(spec) for spec in plan.specs if spec.name in part.stages], part.given)


def batch_of(pairs: Sequence[Pair]) -> Batch:
    """Pairs as the rows that `tryon_pipeline` takes."""
    batch: Batch = {name: [None] * len(pairs) for name in TRYON.given}
    batch |= {"id": [str(i) for i in range(len(pairs))], "category": ["upper"] * len(pairs)}
    return batch | {"person_file": [pair.person for pair in pairs], "garment_file": [pair.garment for pair in pairs]}


class LocalTryOn:
    """Files in, file out, in this process; one at a time."""

    def __init__(self, bundle: str, num_threads: int | None = None) -> None:
        """Loads the bundle.

        Args:
            bundle: URI.
            num_threads: that it computes with; None: as many as the machine has cores.
        """
        (plan,) = plan_groups(ServeConfig(bundle=bundle, groups=(FUSED,)))
        self._worker = computing_thread(num_threads or physical_cpus())
        self._group = self._worker.submit(StageGroup, plan.specs, plan.parts).result()
        self._bundle = bundle

    def __call__(self, person: bytes, garment: bytes) -> bytes:
        """The JPEG file of a try-on.

        Raises:
            RuntimeError: a photo cannot be used.
        """
        given: dict[str, Any] = {"id": "bench", "person_file": person, "garment_file": garment}
        given |= {"category": OPTIONS.category, "output_format": "jpeg", "output_quality": OPTIONS.quality}
        batch = {name: [given.get(name)] for name in TRYON.given}
        call = Call(batch, TRYON.name, time.time() + 600, self._bundle)
        (out,) = self._worker.submit(self._group.run, [call]).result()
        if isinstance(out, Exception):
            raise out
        if out["error_code"][0] is not None:
            raise RuntimeError(out["error"][0])
        file: bytes = out["result_file"][0]
        return file
