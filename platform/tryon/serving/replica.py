"""The deployment around a group of stages: gathers requests into batches, and holds the bundles that are asked for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ray import serve

from tryon.engines.cluster import physical_cpus
from tryon.sample import Batch
from tryon.serving.config import GroupConfig, ServeConfig
from tryon.serving.graph import plan_groups
from tryon.serving.group import Call, StageGroup
from tryon.serving.threads import beside_computing, computing_thread, use_threads
from tryon.serving.traces import Carrier, Traces

Loader = Callable[[str], Awaitable[StageGroup | None]]
Gathered = Callable[[Call], Awaitable[Batch | Exception]]


class GroupReplica:
    """A replica of a group. Bundles are loaded when they are first asked for; those not used for longest make room.

    Requests for one program of one bundle that arrive together go through the stages as one batch, as large as the
    group's `max_batch_size` allows.
    """

    def __init__(self, config: ServeConfig, name: str) -> None:
        """Loads nothing yet.

        Args:
            config: of the service.
            name: of the group.
        """
        self._config = config
        self._name = name
        self._traces = Traces(config.traces, name)
        (group,) = (group for group in config.groups if group.name == name)

        self._worker = computing_thread(threads_of(group))

        async def load(bundle: str) -> StageGroup | None:
            made = await asyncio.to_thread(beside_computing, self._build, bundle)
            await asyncio.get_running_loop().run_in_executor(self._worker, use_threads, threads_of(group))
            return made

        async def answer(calls: list[Call]) -> Sequence[Batch | Exception]:
            return await self._answer(calls)

        most, wait_s = group.max_batch_size, group.batch_wait_s
        self._load: Loader = serve.multiplexed(max_num_models_per_replica=config.bundles_per_replica)(load)
        # Of single requests the next one is ready when the thread is; what is to be gathered waits for others instead.
        ahead = 2 if most == 1 else 1
        gather = serve.batch(max_batch_size=most, batch_wait_timeout_s=wait_s, max_concurrent_batches=ahead)
        self._gathered: Gathered = gather(answer)

    async def reconfigure(self, told: Mapping[str, str]) -> None:
        """Called by Ray Serve before the first request, and when `user_config` changes: loads the bundle it names."""
        await self._load(told["bundle"])

    async def run(self, program: str, until_s: float, bundle: str, trace: Carrier, *given: Batch) -> Batch:
        """Runs this group's stages of a program.

        Args:
            program: by name.
            until_s: Unix time after which nobody waits for the result: then nothing is done.
            bundle: URI of a bundle in which the group has a part of the program.
            trace: the request's place in a trace.
            given: fields of the request, and what groups before this one have made; of a field the last one counts.

        Returns:
            The fields that this group adds and others need.
        """
        call = Call({name: column for part in given for name, column in part.items()}, program, until_s, bundle, trace)
        try:
            made = await self._gathered(call)
        except asyncio.CancelledError:  # the client has gone; the call may still wait for its turn
            call.gone.set()
            raise
        if isinstance(made, Exception):
            raise made
        return made

    async def load(self, bundle: str) -> bool:
        """Whether the group has a part in what a bundle does; returns once its networks are loaded."""
        return await self._load(bundle) is not None

    async def _answer(self, calls: Sequence[Call]) -> Sequence[Batch | Exception]:
        made: dict[int, Batch | Exception] = {}
        for key in dict.fromkeys((call.program, call.bundle) for call in calls):
            alike = {i: call for i, call in enumerate(calls) if (call.program, call.bundle) == key}
            try:
                group = await self._load(key[1])
                assert group is not None
                outs = await asyncio.get_running_loop().run_in_executor(self._worker, group.run, list(alike.values()))
            except Exception as error:  # noqa: BLE001 - each request is told of its own
                outs = [error] * len(alike)
            made |= zip(alike, outs, strict=True)
        return [made[i] for i in range(len(calls))]

    def _build(self, bundle: str) -> StageGroup | None:
        """The group's stages with a bundle's networks; None where it has no part in what that bundle does."""
        plans = plan_groups(self._config, bundle)
        plan = next((plan for plan in plans if plan.group.name == self._name), None)
        return StageGroup(plan.specs, plan.parts, self._config.cache_mb, self._traces) if plan is not None else None


def threads_of(group: GroupConfig) -> int:
    """How many threads a replica of a group computes with: Ray gives one of one CPU one, whatever is idle."""
    if group.num_threads is None:
        return max(1, math.ceil(group.num_cpus))
    return group.num_threads or physical_cpus()
