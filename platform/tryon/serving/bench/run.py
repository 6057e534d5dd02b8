"""`tryon bench serve`: the service against the pipeline without it, and against the same pipeline behind its peers.

One shape of the service is up at a time, since Ray is never quite idle, beside what it is held against; each repeat
takes them in turn, so that a machine that grows slower does so for all. No photo is sent twice, so that nothing is
found in a cache but where that is measured.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from tryon.config import Config, Size
from tryon.errors import TryonError
from tryon.measured import Figure, at_least, at_most, machine, ratios
from tryon.serving.bench.faults import Killed, Overloaded, Scaled, scaling, under_kills, under_overload
from tryon.serving.bench.inputs import Pair, another_file, make_pairs
from tryon.serving.bench.load import Load, Send, Sender, closed_loop, quantile
from tryon.serving.bench.pipeline import LocalTryOn
from tryon.serving.bench.servers import local_workers, running_peers, running_shapes

SERVICE = frozenset({"fused", "split", "replicas", "batching"})


class ServeBenchConfig(Config):
    """What is measured."""

    bundle: str = Field(description="URI")
    size: Size = Field((1024, 768), description="(height, width) px of the photos")
    pairs: int = Field(6, ge=1, le=1000, description="different pairs of photos")
    repeats: int = Field(5, ge=0, le=100, description="of each leg; medians count; 0: no legs")
    requests: int = Field(
        12, ge=2, le=10_000, description="of a leg with one client; with more clients, three times it"
    )
    clients: int = Field(8, ge=2, le=256, description="of the legs under load")
    kills_s: float = Field(0.0, ge=0, le=86_400, description="under load while replicas are killed, seconds; 0: not")
    overload_s: float = Field(0.0, ge=0, le=3600, description="of five times the load it can bear, seconds; 0: not")
    scale: bool = Field(False, description="from no replica under load and back to none")


class Leg(Config):
    """What one leg met."""

    kind: str = Field(description="who answered")
    part: str = Field(description="the shape of the service that was up then")
    clients: int = Field(description="side by side")
    repeat: int = Field(description="from 0")
    p50_s: float = Field(description="seconds from request to answer, median")
    p95_s: float = Field(description="the same, 95th percentile")
    per_s: float = Field(description="answers a second")


class ServeBenchResult(Config):
    """What a bench found; written as JSON."""

    config: ServeBenchConfig = Field(description="resolved")
    machine: Mapping[str, Any] = Field(description="processor, cores, versions")
    legs: tuple[Leg, ...] = Field(description="in the order they ran")
    cached: tuple[tuple[float, float], ...] = Field(
        description="seconds of a first and a second garment, a repeat each"
    )
    killed: Killed | None = Field(None, description="under kills, where that was measured")
    overloaded: Overloaded | None = Field(None, description="under overload, where that was measured")
    scaled: Scaled | None = Field(None, description="from no replica to none, where that was measured")
    figures: tuple[Figure, ...] = Field(description="against what is asked")


def bench_serve(config: ServeBenchConfig, on_leg: Callable[[Leg], None]) -> ServeBenchResult:
    """Measures.

    Args:
        config: what.
        on_leg: told each leg when it is done.

    Raises:
        TryonError: the bundle cannot be used, a photo cannot, or a server does not come up or answer.
    """
    pairs = make_pairs(config.pairs, config.size)
    legs, cached = _compared(config, pairs, on_leg) if config.repeats else ([], [])
    figures = list(figures_of(legs, cached, config.clients)) if legs else []
    killed = under_kills(config.bundle, pairs, config.kills_s, config.clients) if config.kills_s else None
    overloaded = under_overload(config.bundle, pairs, config.overload_s, config.clients) if config.overload_s else None
    scaled = scaling(config.bundle, pairs, config.clients) if config.scale else None
    for found in (killed, overloaded):
        figures += found.figures if found is not None else ()
    return ServeBenchResult(
        config=config, machine=machine(), legs=legs, cached=cached, killed=killed, overloaded=overloaded, scaled=scaled,
        figures=figures,
    )  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Shapes of the service that are up at once, and what they are held against.

    Attributes:
        shapes: of the service, the first one names the part.
        beside: what answers in the same repeats; the peers, where `with_peers`.
        with_peers: whether they do.
        alone: whether there are legs with one client.
        crowded: whether there are legs with several.
    """

    shapes: tuple[str, ...]
    beside: tuple[str, ...]
    with_peers: bool = False
    alone: bool = False
    crowded: bool = False


PARTS = (
    Part(("fused",), ("local",), with_peers=True, alone=True, crowded=True),
    Part(("split",), ("local",), alone=True),
    Part(("replicas", "batching"), ("local", "workers"), with_peers=True, crowded=True),
)


def _compared(
    config: ServeBenchConfig, pairs: Sequence[Pair], on_leg: Callable[[Leg], None]
) -> tuple[list[Leg], list[tuple[float, float]]]:
    """The legs, and the seconds of a first and a second garment."""
    legs: list[Leg] = []
    cached: list[tuple[float, float]] = []
    with _beside(config, pairs) as (local, peers):
        for part in PARTS:
            with running_shapes(config.bundle, part.shapes) as shapes:
                own = {name: NewPhotos(Sender(server, pairs)) for name, server in shapes.items()}
                sends: dict[str, Send] = {
                    **{name: local[name] for name in part.beside},
                    **own,
                    **(peers if part.with_peers else {}),
                }
                for kind, send in sends.items():
                    _checked(closed_loop(send, 1, num=config.requests), f"warm-up of {kind}")
                for repeat in range(config.repeats):
                    for kind, clients in _turns(config, part, list(sends)):
                        num = config.requests if clients == 1 else 3 * config.requests
                        load = _checked(closed_loop(sends[kind], clients, num=num), f"{kind} with {clients} clients")
                        legs.append(_leg(kind, part.shapes[0], clients, repeat, load))
                        on_leg(legs[-1])
                    if "fused" in own:
                        cached.append(_second_garment(own["fused"], pairs, repeat))
    return legs, cached


@contextmanager
def _beside(config: ServeBenchConfig, pairs: Sequence[Pair]) -> Iterator[tuple[dict[str, Send], dict[str, Send]]]:
    """What answers beside the service, by name: without a server, and the peers."""
    tryon = LocalTryOn(config.bundle)

    def local(number: int) -> int:
        pair = pairs[number % len(pairs)]
        return 200 if tryon(pair.person, pair.garment) else 500

    with ExitStack() as stack:
        workers = stack.enter_context(local_workers(config.bundle, pairs))
        peers = stack.enter_context(running_peers(config.bundle))
        yield (
            {"local": local, "workers": workers},
            {name: NewPhotos(Sender(server, pairs)) for name, server in peers.items()},
        )


class NewPhotos:
    """Sends photos whose bytes nobody has seen."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self._numbers = itertools.count()

    def __call__(self, number: int) -> int:
        """One pair, in files of its own."""
        pair = self.sender.pair(number)
        salt = next(self._numbers)
        return self.sender.send(Pair(another_file(pair.person, salt), another_file(pair.garment, salt)))


def _turns(config: ServeBenchConfig, part: Part, kinds: Sequence[str]) -> Iterator[tuple[str, int]]:
    for clients in ((1,) if part.alone else ()) + ((config.clients,) if part.crowded else ()):
        for kind in kinds:
            yield kind, clients


def _second_garment(send: NewPhotos, pairs: Sequence[Pair], repeat: int) -> tuple[float, float]:
    """Medians of a first and a second garment on the same person, over all pairs."""
    times: tuple[list[float], list[float]] = ([], [])
    for i, pair in enumerate(pairs):
        salt = 1_000_000 + repeat * len(pairs) + i
        person = another_file(pair.person, salt)
        for which in (0, 1):
            garment = another_file(pairs[(i + which) % len(pairs)].garment, 2 * salt + which)
            start = time.perf_counter()
            status = send.sender.send(Pair(person, garment))
            times[which].append(time.perf_counter() - start)
            if status != 200:
                raise TryonError(f"the service answered {status} to a garment on a known person", code="bench-failed")
    return quantile(times[0], 0.5), quantile(times[1], 0.5)


def _checked(load: Load, what: str) -> Load:
    """The load.

    Raises:
        TryonError: not every answer is 2xx.
    """
    if load.failed:
        statuses = sorted({one.status for one in load.answers})
        text = f"{what}: {load.failed} of {len(load.answers)} requests failed, statuses {statuses} (0: no answer)"
        raise TryonError(text, code="bench-failed")
    return load


def _leg(kind: str, part: str, clients: int, repeat: int, load: Load) -> Leg:
    p95_s = quantile([one.seconds for one in load.answers], 0.95)
    return Leg(kind=kind, part=part, clients=clients, repeat=repeat, p50_s=load.p50_s, p95_s=p95_s, per_s=load.per_s)


def figures_of(legs: Sequence[Leg], cached: Sequence[tuple[float, float]], clients: int) -> tuple[Figure, ...]:
    """The figures that something is asked of."""

    def p50(kind: str, part: str, num: int = 1) -> list[float]:
        return [leg.p50_s for leg in legs if (leg.kind, leg.part, leg.clients) == (kind, part, num)]

    def per_s(kind: str, part: str, num: int) -> list[float]:
        return [leg.per_s for leg in legs if (leg.kind, leg.part, leg.clients) == (kind, part, num)]

    def most(kinds: Sequence[str], part: str, num: int) -> list[float]:
        """Of what answers most a second over all repeats: of each repeat's best the noise would be counted too."""
        return max((per_s(kind, part, num) for kind in kinds), key=statistics.median)

    peers = [kind for kind in dict.fromkeys(leg.kind for leg in legs) if kind not in {*SERVICE, "local", "workers"}]
    best = most(("replicas", "batching"), "replicas", clients)
    alone = most(("workers", "local"), "replicas", clients)
    found = [
        at_most("fused p50 / pipeline p50", ratios(p50("fused", "fused"), p50("local", "fused")), 1.15),
        at_most("split p50 / pipeline p50", ratios(p50("split", "split"), p50("local", "split")), 1.35),
        at_least(f"replicas, {clients} clients / pipeline on all cores, a second", ratios(best, alone), 0.9),
        at_most("second garment / first garment", [second / first for first, second in cached], 0.6),
    ]
    for num in (1, clients) if peers else ():
        quickest = min((p50(kind, "fused", num) for kind in peers), key=statistics.median)
        s = "" if num == 1 else "s"
        speed = ratios(per_s("fused", "fused", num), most(peers, "fused", num))
        found += [
            at_most(f"fused p50 / better peer's, {num} client{s}", ratios(p50("fused", "fused", num), quickest), 1.1),
            at_least(f"fused / better peer, a second, {num} client{s}", speed, 0.9),
        ]
    if peers:
        text = f"two replicas or batching / better peer, a second, {clients} clients"
        found.append(at_least(text, ratios(best, most(peers, "replicas", clients)), 1.0))
    return tuple(found)
