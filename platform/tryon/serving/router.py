"""The way of a request through the groups of stages: of which bundle, in which order, again where a replica dies."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray.exceptions
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from tryon.errors import PipelineError, SampleError
from tryon.models.bundle import BundleManifest, read_manifest
from tryon.sample import Batch
from tryon.serving.config import DEFAULT_MODEL, BundlesConfig, ServeConfig
from tryon.serving.faults import BusyError, DeadlineError
from tryon.serving.graph import REQUEST, TRYON, Part, Program, bundle_uris, plan_groups, programs_of
from tryon.serving.metrics import IngressMetrics
from tryon.serving.traces import Traces

LOSSES = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.NodeDiedError,
)
MAX_TRIES = 6  # of a request whose replica died
RETRY_PAUSE_S = 0.5  # times the tries so far
READY_S = 5.0
logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Model:
    """A bundle that is served.

    Attributes:
        uri: of one version of it.
        manifest: its own.
        programs: that it offers, by name: the groups they go through, in order, with their parts.
    """

    uri: str
    manifest: BundleManifest
    programs: Mapping[str, Mapping[str, Part]]


def models_of(config: ServeConfig, deployed: Mapping[str, Any]) -> dict[str, Model]:
    """The bundles of a config by name, with what the deployed groups can do with them.

    Raises:
        BundleError: one cannot be used.
        PipelineError: the groups cannot try on with one.
    """
    models: dict[str, Model] = {}
    for name, uri in bundle_uris(config).items():
        programs = programs_of(plan_groups(config, uri))
        offered = {one: groups for one, groups in programs.items() if all(group in deployed for group in groups)}
        if TRYON.name not in offered:
            text = f"bundle {uri} needs groups that are not deployed: {', '.join(programs[TRYON.name])}"
            raise PipelineError(text, code="group-missing", field="bundles")
        models[name] = Model(uri, read_manifest(uri), offered)
    return models


class Router:
    """Sends batches of one through the groups."""

    def __init__(self, config: ServeConfig, groups: Mapping[str, DeploymentHandle], metrics: IngressMetrics) -> None:
        """Reads the bundles' manifests.

        Args:
            config: of the service.
            groups: deployments by the group's name.
            metrics: told of replicas that die.

        Raises:
            BundleError, PipelineError: see `models_of`.
        """
        self._config = config
        self._groups = groups
        self._metrics = metrics
        self._traces = Traces(config.traces, "ingress")
        self.models: Mapping[str, Model] = models_of(config, groups)
        self._handles: dict[tuple[str, str], DeploymentHandle] = {}

    async def take(self, told: BundlesConfig) -> None:
        """Serves other bundles from now on. They are loaded first, and requests on their way keep theirs.

        Raises:
            BundleError, PipelineError: see `models_of`; then all stays as it is.
        """
        config = self._config.model_copy(update=told.model_dump())
        models = await asyncio.to_thread(models_of, config, self._groups)
        known = {model.uri for model in self.models.values()}
        for model in models.values():
            if model.uri not in known:
                names = dict.fromkeys(name for groups in model.programs.values() for name in groups)
                await asyncio.gather(*(self._groups[name].load.remote(model.uri) for name in names))
        self._handles.clear()
        self.models = models

    async def is_ready(self) -> bool:
        """Whether the groups that always have a replica answer within 5 s; those that may have none are not woken."""
        uri = self.models[DEFAULT_MODEL].uri
        always = [group.name for group in self._config.groups if group.is_always_there and group.name in self._groups]
        waits = [self._groups[name].load.remote(uri) for name in always]
        try:
            await asyncio.wait_for(asyncio.gather(*waits), timeout=READY_S)
        except BackPressureError:  # replicas are there, and busy
            return True
        except (TimeoutError, ray.exceptions.RayError):
            return False
        return True

    async def through(self, program: Program, batch: Batch, name: str | None) -> dict[str, Any]:
        """Sends a batch of one from group to group; images do not come back here between two.

        Args:
            program: what is run.
            batch: the fields that the program is given.
            name: of a bundle; None: the default one.

        Returns:
            The row.

        Raises:
            SampleError: the sample cannot be used, or the service does not offer the program or the bundle.
            BusyError, DeadlineError: the replicas are busy; the time is over.
        """
        model = self._model(name)
        places = model.programs.get(program.name)
        if places is None:
            text = f"this service does not {program.name}: its bundle or its groups lack a stage for it"
            raise SampleError(text, code="not-offered")
        out = await self._tried(program, model, places, batch)
        row = {field: column[0] for field, column in out.items()}
        if row["error_code"] is not None:
            raise SampleError(row["error"], code=row["error_code"], field=fault_field(row))
        return row

    def _model(self, name: str | None) -> Model:
        found = self.models.get(name or DEFAULT_MODEL)
        if found is None:
            text = f"this service has no model {name!r}, but {', '.join(self.models)}"
            raise SampleError(text, code="model-missing", field="options")
        return found

    async def _tried(self, program: Program, model: Model, places: Mapping[str, Part], batch: Batch) -> Batch:
        """Again where a replica died with it, until its time is over."""
        end = time.monotonic() + self._config.request_timeout_s
        tries = 1
        while True:
            try:
                return await self._once(program, model, places, batch, end)
            except ray.exceptions.RayError as error:
                if not is_loss(error) or tries >= MAX_TRIES or time.monotonic() >= end:
                    raise
                self._metrics.lost(program.name)
                logger.warning("a replica was lost with a request in it, which is run again: %s", type(error).__name__)
                await asyncio.sleep(RETRY_PAUSE_S * tries)
                tries += 1

    async def _once(
        self, program: Program, model: Model, places: Mapping[str, Part], batch: Batch, end: float
    ) -> Batch:
        """One try of a program; `end` is of `time.monotonic`.

        Raises:
            DeadlineError, BusyError: the time is over; all replicas are busy.
            RayError: see `is_loss`.
        """
        left_s = end - time.monotonic()
        value: Any = batch
        made: dict[str, Any] = {}
        until, trace = time.time() + left_s, self._traces.here()
        for place, part in places.items():
            given = [_fields(batch, part.takes.get(REQUEST, ())), *(made[one] for one in part.takes if one != REQUEST)]
            value = self._handle(place, model.uri).run.remote(program.name, until, model.uri, trace, *given)
            made[place] = value
        try:
            out: Batch = await asyncio.wait_for(value, timeout=left_s)
        except TimeoutError as error:
            raise DeadlineError(f"the request took longer than {self._config.request_timeout_s:g} s") from error
        except BackPressureError as error:
            raise BusyError("all replicas are busy; try again in a few seconds") from error
        return out

    def _handle(self, place: str, uri: str) -> DeploymentHandle:
        """Of a group; where there are several bundles, one that looks for a replica that has this one loaded."""
        if len(self.models) == 1:
            return self._groups[place]
        if (place, uri) not in self._handles:
            self._handles[place, uri] = self._groups[place].options(multiplexed_model_id=uri)
        return self._handles[place, uri]


def _fields(batch: Batch, names: Sequence[str]) -> Batch:
    return {name: batch[name] for name in names}


def is_loss(error: BaseException) -> bool:
    """Whether a request failed because the process that had it, or what it had made, is gone: another try may do."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return error.cause is not None and is_loss(error.cause)
    return isinstance(error, LOSSES)


def fault_field(row: dict[str, Any]) -> str | None:
    """Which input a stage's error is about."""
    stage = row["error_stage"]
    if stage in ("decode_garment", "fit_garment", "garment_mask"):
        return "garment_image"
    if stage in ("synthesize", "synthesize_unwarped"):
        return "options"
    of_person = ("decode_person", "fit_person", "pose", "parse", "parse_segment", "extract")
    return "person_image" if stage in of_person else None
