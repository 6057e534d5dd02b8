"""The service while its replicas are killed, while more is asked of it than it can do, and from no replica to none."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
from pydantic import Field

from tryon.client import Client, ServiceError
from tryon.config import Config
from tryon.errors import TryonError
from tryon.measured import Figure, at_least, at_most
from tryon.serving.bench.inputs import Pair, another_file
from tryon.serving.bench.load import Address, Answered, Load, Send, Sender, closed_loop, quantile
from tryon.serving.bench.processes import below, replicas
from tryon.serving.bench.servers import running_shapes

SHAPE = "replicas"
DEADLINE_S = 60.0  # of a request, with its tries
SETTLE_S = 20.0  # after the last kill, until all replicas are there again
RATE = 5.0  # times the capacity
BOUND = 8  # requests at work or waiting that the overloaded service takes
UNLOADED = 20  # requests that tell how long one takes
SENDERS = 96
NORMAL = 1.5  # times the unloaded p95
WATCH_S = 60.0
SCALED = "scaled"
MOST = 2  # replicas that the scaled service may have


class Killed(Config):
    """What clients met while replicas were killed."""

    seconds: float = Field(description="of the load")
    kills: int = Field(description="processes killed")
    sent: int = Field(description="requests, tries counted once")
    failed: int = Field(description="that did not end with 2xx")
    longest_s: float = Field(description="the longest request with its tries, seconds")
    memory_before_mb: float = Field(description="private memory of all of Ray's processes, after the warm-up")
    memory_after_mb: float = Field(description="the same, when all replicas are there again")

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Against what is asked."""
        return (
            at_least("under kills, share of 2xx", [1 - self.failed / max(1, self.sent)], 0.999),
            at_most("under kills, longest request / its deadline", [self.longest_s / DEADLINE_S], 1.0),
            at_most("under kills, memory after / before", [self.memory_after_mb / self.memory_before_mb], 1.1),
        )


class Overloaded(Config):
    """What clients met that asked for more than the service can do."""

    capacity_per_s: float = Field(description="try-ons a second that it does")
    unloaded_p95_s: float = Field(description="of a request by itself, seconds")
    bound: int = Field(description="requests that it lets in at once")
    sent: int = Field(description="requests, at five times the capacity")
    accepted: int = Field(description="of them that got their picture")
    refused: int = Field(description="of them that got 429 or 503")
    accepted_p95_s: float = Field(description="of a picture, seconds")
    refused_p99_s: float = Field(description="of a refusal, seconds")
    back_s: float = Field(description="from the end of the load until a request is as quick as without it, seconds")

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Against what is asked."""
        bar_s = 2 * self.unloaded_p95_s * self.bound
        answered = (self.accepted + self.refused) / self.sent
        return (
            at_least("overload, share of pictures and refusals", [answered], 1.0),
            at_most("overload, p95 of pictures / (2 x unloaded p95 x bound)", [self.accepted_p95_s / bar_s], 1.0),
            at_most("overload, p99 of refusals, s", [self.refused_p99_s], 0.1),
            at_most("overload, back to normal, s", [self.back_s], 10.0),
        )


class Scaled(Config):
    """How long replicas took to come and go, seconds."""

    cold_start_s: float = Field(description="a first request, with no replica there")
    warm_s: float = Field(description="the next one")
    up_s: float = Field(description="from the begin of the load until there are two replicas")
    down_s: float = Field(description="from its end until there is none, after `quiet_s` at the least")
    quiet_s: float = Field(description="that the config has the last replica wait for a request")


def scaling(bundle: str, pairs: Sequence[Pair], clients: int, quiet_s: float = 5.0) -> Scaled:
    """Asks a service that has no replica, loads it, and lets it be."""
    with running_shapes(bundle, (SCALED,)) as servers:
        send = Sender(servers[SCALED], pairs)
        wait_until(lambda: not replicas(SCALED, "all"))
        cold, warm = (closed_loop(send, 1, num=1).answers[0] for _ in range(2))
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                closed_loop(send, clients, num=clients)

        loading = threading.Thread(target=work, daemon=True)
        loading.start()
        up_s = wait_until(lambda: len(replicas(SCALED, "all")) >= MOST)
        stop.set()
        loading.join()
        down_s = wait_until(lambda: not replicas(SCALED, "all"))
    return Scaled(cold_start_s=cold.seconds, warm_s=warm.seconds, up_s=up_s, down_s=down_s, quiet_s=quiet_s)


def wait_until(holds: Callable[[], bool], limit_s: float = 300.0) -> float:
    """Seconds until something holds.

    Raises:
        TryonError: it does not within the limit.
    """
    start = time.perf_counter()
    while not holds():
        if time.perf_counter() - start > limit_s:
            raise TryonError(f"the service did not scale within {limit_s:g} s", code="bench-failed")
        time.sleep(0.2)
    return time.perf_counter() - start


def under_kills(bundle: str, pairs: Sequence[Pair], seconds: float, clients: int, every_s: float = 10.0) -> Killed:
    """Kills a replica, or the ingress, every few seconds under a closed loop of clients that try again."""
    with running_shapes(bundle, (SHAPE,)) as servers:
        patient = _Patient(servers[SHAPE], pairs)
        closed_loop(patient, clients, num=2 * clients)
        before_mb = _memory_mb()
        with _killing(every_s) as kills:
            load = closed_loop(patient, clients, seconds=seconds)
        time.sleep(SETTLE_S)
        closed_loop(patient, clients, num=2 * clients)
        after_mb = _memory_mb()
    return Killed(
        seconds=load.seconds, kills=len(kills), sent=len(load.answers), failed=load.failed,
        longest_s=max(one.seconds for one in load.answers), memory_before_mb=before_mb, memory_after_mb=after_mb,
    )  # fmt: skip


class _Patient:
    """Sends pairs with the project's client, which tries again."""

    def __init__(self, server: Address, pairs: Sequence[Pair]) -> None:
        self._server = server
        self._pairs = pairs
        self._local = threading.local()

    def __call__(self, number: int) -> int:
        if not hasattr(self._local, "client"):
            self._local.client = Client(self._server.url, key=self._server.key, timeout_s=DEADLINE_S, tries=100)
        pair = self._pairs[number % len(self._pairs)]
        try:
            self._local.client.tryon(
                another_file(pair.person, number), another_file(pair.garment, number), output_format="jpeg"
            )
        except ServiceError as error:
            return error.status or 0
        return 200


@contextmanager
def _killing(every_s: float) -> Iterator[list[int]]:
    """Kills while the body runs; gives the ids of what was killed."""
    stop = threading.Event()
    killed: list[int] = []
    draw = random.Random(0)

    def work() -> None:
        while not stop.wait(every_s):
            if found := replicas(SHAPE):
                victim = draw.choice(found)
                victim.kill()
                killed.append(victim.pid)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def _memory_mb() -> float:
    total = 0
    for process in below():
        try:
            total += process.memory_full_info().uss
        except psutil.Error:
            continue
    return total / 1e6


def under_overload(bundle: str, pairs: Sequence[Pair], seconds: float, clients: int) -> Overloaded:
    """Sends five times as many requests as the service can answer, whether or not they are answered."""
    with running_shapes(bundle, (SHAPE,), max_queued_requests=BOUND) as servers:
        send = Sender(servers[SHAPE], pairs)
        closed_loop(send, min(clients, BOUND), num=2 * clients)
        alone = closed_loop(send, 1, num=UNLOADED)
        capacity = closed_loop(send, min(clients, BOUND), num=4 * clients)
        p95_s = _p95(alone.answers)
        load = open_loop(send, RATE * capacity.per_s, seconds)
        back_s = _back_after(send, NORMAL * p95_s)
    accepted = [one for one in load.answers if one.status == 200]
    refused = [one for one in load.answers if one.status in (429, 503)]
    return Overloaded(
        capacity_per_s=capacity.per_s, unloaded_p95_s=p95_s, bound=BOUND, sent=len(load.answers),
        accepted=len(accepted), refused=len(refused), accepted_p95_s=_p95(accepted),
        refused_p99_s=quantile([one.seconds for one in refused], 0.99), back_s=back_s,
    )  # fmt: skip


def open_loop(send: Send, per_s: float, seconds: float) -> Load:
    """Sends at a steady rate, whether or not what was sent is answered."""
    answers: list[Answered] = []

    def one(number: int) -> None:
        began = time.perf_counter()
        status = send(number)
        answers.append(Answered(status, began, time.perf_counter() - began))

    start = time.perf_counter()
    with ThreadPoolExecutor(SENDERS) as pool:
        for number in range(max(1, round(per_s * seconds))):
            time.sleep(max(0.0, start + number / per_s - time.perf_counter()))
            pool.submit(one, number)
    return Load(answers, time.perf_counter() - start)


def _back_after(send: Callable[[int], int], normal_s: float) -> float:
    """Seconds until a request by itself is as quick as that; `WATCH_S` where none is."""
    start = time.perf_counter()
    number = 0
    while (began := time.perf_counter()) - start < WATCH_S:
        if send(number) == 200 and time.perf_counter() - began <= normal_s:
            return began - start
        number += 1
        time.sleep(0.1)
    return WATCH_S


def _p95(answers: Sequence[Answered]) -> float:
    return quantile([one.seconds for one in answers], 0.95)
