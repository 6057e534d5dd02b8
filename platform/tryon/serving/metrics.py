"""What the service counts, with Ray's metrics: Prometheus reads them at each node's metrics port, as ``ray_<name>``.

| name | tags | what |
|---|---|---|
| tryon_requests_total | route, status, code | answered requests; code of the fault, or "ok" |
| tryon_request_seconds | route | from the first byte of the request to the last of the answer |
| tryon_stage_seconds | stage | a stage's run over a batch |
| tryon_batch_requests | | requests that went through a group's stages as one batch |
| tryon_cache_lookups_total | photo, found | of annotation that is kept by a photo's hash |
| tryon_lost_replicas_total | program | requests that were run again because their replica died |
| tryon_in_flight | | requests of an ingress process that are not answered yet |
| tryon_jobs | status | batch jobs in the store |
| tryon_job_items_total | end | tries of batch jobs' items: done, or the code of the fault; busy costs no attempt |
| tryon_job_item_seconds | | of a try that was done, from lease to end |
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property

from ray.serve import metrics
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
BATCH_BUCKETS = [1, 2, 4, 8, 16, 32, 64]
STAGE_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]


class StageMetrics:
    """Of a replica that runs stages."""

    @cached_property
    def _seconds(self) -> metrics.Histogram:
        text = "a stage's run over a batch, seconds"
        return metrics.Histogram("tryon_stage_seconds", text, boundaries=STAGE_BUCKETS, tag_keys=("stage",))

    @cached_property
    def _batches(self) -> metrics.Histogram:
        text = "requests that went through the stages as one batch"
        return metrics.Histogram("tryon_batch_requests", text, boundaries=BATCH_BUCKETS)

    @cached_property
    def _lookups(self) -> metrics.Counter:
        text = "lookups of annotation kept by a photo's hash"
        return metrics.Counter("tryon_cache_lookups_total", text, tag_keys=("photo", "found"))

    def stage(self, name: str, seconds: float) -> None:
        """A stage has run."""
        self._seconds.observe(seconds, tags={"stage": name})

    def gathered(self, num: int) -> None:
        """So many requests are one batch."""
        self._batches.observe(num)

    def lookup(self, photo: str, found: bool) -> None:
        """A photo was looked up."""
        self._lookups.inc(tags={"photo": photo.removesuffix("_file"), "found": "yes" if found else "no"})


class IngressMetrics:
    """Of an ingress replica."""

    @cached_property
    def _requests(self) -> metrics.Counter:
        return metrics.Counter("tryon_requests_total", "answered requests", tag_keys=("route", "status", "code"))

    @cached_property
    def _seconds(self) -> metrics.Histogram:
        text = "from a request's first byte to its answer's last, seconds"
        return metrics.Histogram("tryon_request_seconds", text, boundaries=REQUEST_BUCKETS, tag_keys=("route",))

    @cached_property
    def _lost(self) -> metrics.Counter:
        text = "requests run again because their replica died"
        return metrics.Counter("tryon_lost_replicas_total", text, tag_keys=("program",))

    @cached_property
    def _in_flight(self) -> metrics.Gauge:
        return metrics.Gauge("tryon_in_flight", "requests that are not answered yet")

    @cached_property
    def _jobs(self) -> metrics.Gauge:
        return metrics.Gauge("tryon_jobs", "batch jobs in the store", tag_keys=("status",))

    @cached_property
    def _items(self) -> metrics.Counter:
        return metrics.Counter("tryon_job_items_total", "tries of batch jobs' items", tag_keys=("end",))

    @cached_property
    def _item_seconds(self) -> metrics.Histogram:
        text = "of an item's try that was done, seconds"
        return metrics.Histogram("tryon_job_item_seconds", text, boundaries=REQUEST_BUCKETS)

    def answered(self, route: str, status: int, code: str, seconds: float) -> None:
        """A request was answered."""
        self._requests.inc(tags={"route": route, "status": str(status), "code": code})
        self._seconds.observe(seconds, tags={"route": route})

    def in_flight(self, num: int) -> None:
        """So many requests are not answered yet."""
        self._in_flight.set(num)

    def lost(self, program: str) -> None:
        """A request's replica died."""
        self._lost.inc(tags={"program": program})

    def jobs(self, counts: Mapping[str, int]) -> None:
        """Jobs by status."""
        for status, num in counts.items():
            self._jobs.set(num, tags={"status": status})

    def item(self, end: str, seconds: float) -> None:
        """A try of a batch job's item has ended."""
        self._items.inc(tags={"end": end})
        if end == "done":
            self._item_seconds.observe(seconds)


class Counted:
    """Plain ASGI middleware that counts requests: the outermost, so that refusals are counted too."""

    def __init__(self, app: ASGIApp, metrics: IngressMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._num = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 499  # the client has gone, unless an answer begins

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._num += 1
        self._metrics.in_flight(self._num)
        try:
            await self._app(scope, receive, send_seen)
        except Exception:
            status = 500  # answered by what is around this
            raise
        finally:
            self._num -= 1
            self._metrics.in_flight(self._num)
            code = "internal" if status == 500 else str(scope.get("state", {}).get("fault", "ok"))
            self._metrics.answered(_route(scope), status, code, time.perf_counter() - start)


def _route(scope: Scope) -> str:
    """The route's pattern: a path would be a tag with as many values as there are jobs."""
    return getattr(scope.get("route"), "path", "other")
