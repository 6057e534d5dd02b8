"""Clients in a closed loop: each sends its next request when the last is answered."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from tryon.serving.bench.inputs import Pair

PATH = "/api/v1/tryon"
TIMEOUT_S = 120.0
Send = Callable[[int], int]  # the number of a request to its status; 0: no answer


@dataclass(frozen=True)
class Address:
    """Of a server.

    Attributes:
        url: without a path, or with the one its routes are below.
        key: that it asks for; None: none.
    """

    url: str
    key: str | None = None


@dataclass(frozen=True)
class Answered:
    """A request and its end.

    Attributes:
        status: of HTTP; 0: none came.
        start_s: on the clock of `time.perf_counter`.
        seconds: until the answer was there.
    """

    status: int
    start_s: float
    seconds: float


@dataclass(frozen=True)
class Load:
    """What a closed loop met.

    Attributes:
        answers: in no order.
        seconds: from the first request to the last answer.
    """

    answers: Sequence[Answered]
    seconds: float

    @property
    def failed(self) -> int:
        """Answers that are not 2xx."""
        return sum(not 200 <= one.status < 300 for one in self.answers)

    @property
    def p50_s(self) -> float:
        """Of all answers."""
        return quantile([one.seconds for one in self.answers], 0.5)

    @property
    def per_s(self) -> float:
        """2xx answers a second."""
        return (len(self.answers) - self.failed) / self.seconds


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed; 0 of none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=1000, method="inclusive")[min(998, max(0, round(share * 1000) - 1))]


@dataclass
class _Turns:
    """Gives out numbers until there are no more, or the time is over."""

    num: int | None
    end: float
    next: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> int | None:
        with self.lock:
            if time.perf_counter() >= self.end or (self.num is not None and self.next >= self.num):
                return None
            self.next += 1
            return self.next - 1


def closed_loop(send: Send, clients: int, *, num: int | None = None, seconds: float = float("inf")) -> Load:
    """Runs clients side by side.

    Args:
        send: a request by its number; called from several threads.
        clients: threads.
        num: of requests; None: until the time is over.
        seconds: after which no client begins another.
    """
    start = time.perf_counter()
    turns = _Turns(num, start + seconds)
    answers: list[Answered] = []

    def work() -> None:
        while (number := turns.take()) is not None:
            began = time.perf_counter()
            status = send(number)
            answers.append(Answered(status, began, time.perf_counter() - began))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(answers, time.perf_counter() - start)


class Sender:
    """Sends pairs to a server, those under way at once over connections of their own; the answer is the JPEG file."""

    def __init__(self, server: Address, pairs: Sequence[Pair], timeout_s: float = TIMEOUT_S) -> None:
        self._url = server.url + PATH
        headers = {"accept": "image/jpeg"} | ({"x-api-key": server.key} if server.key is not None else {})
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        # No certificates are read: that takes a tenth of a second.
        self._http = httpx.Client(headers=headers, timeout=timeout_s, limits=limits, verify=False)
        self._pairs = pairs

    def __call__(self, number: int) -> int:
        """Sends the pair of that number, from the first again after the last."""
        return self.send(self.pair(number))

    def pair(self, number: int) -> Pair:
        """Of that number."""
        return self._pairs[number % len(self._pairs)]

    def send(self, pair: Pair) -> int:
        """Sends a pair; gives the status."""
        files = {"person_image": ("p.jpg", pair.person), "garment_image": ("g.jpg", pair.garment)}
        try:
            status: int = self._http.post(self._url, files=files).status_code
        except httpx.TransportError:
            return 0
        return status
