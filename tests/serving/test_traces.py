"""A request's trace: its own span, and those of the stages in other processes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import requests

from tests.serving.conftest import Collector
from tests.test_interrupt import wait_for
from tryon.errors import ConfigError
from tryon.serving import traces
from tryon.serving.traces import Traces, check_traces

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.ray
@pytest.mark.xdist_group("service")
def test_a_request_and_its_stages_are_one_trace(url: str, collector: Collector, photo_files: tuple[Path, Path]) -> None:
    person, garment = (path.read_bytes() for path in photo_files)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "traced"}
    told = {"person_image": person, "garment_image": garment}
    assert requests.post(f"{url}/api/v1/tryon", files=told, headers=headers, timeout=60).status_code == 200

    def found() -> dict[str, dict[str, object]]:
        return {span["name"]: span for span in list(collector.spans) if span["traceId"] == TRACE}

    wanted = {
        "POST /api/v1/tryon",
        "decode_person",
        "pose",
        "agnostic",
        "warp",
        "synthesize",
        "refine",
        "preserve",
        "paste",
    }
    wait_for(lambda: wanted <= found().keys(), 60, "the spans")
    spans = found()
    request = spans["POST /api/v1/tryon"]
    assert request["parentSpanId"] == PARENT
    attributes = {one["key"]: next(iter(one["value"].values())) for one in request["attributes"]}  # type: ignore[attr-defined]
    assert attributes["tryon.request_id"] == "traced"
    assert int(attributes["http.response.status_code"]) == 200
    for name in wanted - {"POST /api/v1/tryon"}:
        assert spans[name]["parentSpanId"] == request["spanId"], name
        assert int(request["startTimeUnixNano"]) <= int(spans[name]["startTimeUnixNano"])  # type: ignore[call-overload]
        assert int(spans[name]["endTimeUnixNano"]) <= int(request["endTimeUnixNano"])  # type: ignore[call-overload]
    parts = {span["resource"]["service.instance.id"]["stringValue"] for span in spans.values()}  # type: ignore[index]
    assert parts == {"ingress", "annotation", "warp", "synthesis", "refinement"}


def test_without_a_collector_nothing_is_told() -> None:
    seen: list[str] = []

    def on_stage(name: str, seconds: float) -> None:
        seen.append(name)

    off = Traces(None, "")
    assert off.here() == {}
    assert off.stages([{}], on_stage) is on_stage
    with off.request("POST", {}) as answered:
        answered(200, "POST /")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_spec("opentelemetry") is not None
    check_traces(None)
    check_traces("http://127.0.0.1:4318")
    monkeypatch.setattr(traces, "EXPORTER", "no_such_package.exporter")
    check_traces(None)
    with pytest.raises(ConfigError, match=r"pip install 'tryon\[otel\]'"):
        check_traces("http://127.0.0.1:4318")
