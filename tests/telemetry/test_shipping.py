"""Telemetry leaves the process without ever holding it up, and every item is accounted for."""

import io
import json
import threading
import time
from collections.abc import Sequence
from functools import partial

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from telemetry.log import Repeats, configure
from telemetry.metrics import TELEMETRY_ITEMS, Metrics
from telemetry.otlp import LogLine
from telemetry.process import Telemetry
from telemetry.shipping import MADE_AT_ONCE, Shipper
from telemetry.tracing import Tracer


def _fates(metrics: Metrics) -> dict[str, float]:
    outcomes = ("shipped", "dropped", "failed")
    return {outcome: metrics.value(TELEMETRY_ITEMS, signal="spans", outcome=outcome) for outcome in outcomes}


def test_what_is_put_is_shipped_in_order() -> None:
    got: list[int] = []
    metrics = Metrics()

    def send(batch: Sequence[int]) -> bool:
        got.extend(batch)
        return True

    shipper = Shipper("spans", send, metrics, ship_seconds=0.01)
    for number in range(1_000):
        shipper.put(number)
    shipper.close()
    assert list(range(1_000)) == got
    assert {"shipped": 1_000, "dropped": 0, "failed": 0} == _fates(metrics)


def test_what_is_made_later_is_made_several_at_once_and_the_rest_before_the_next_batch() -> None:
    got: list[int] = []
    metrics = Metrics()
    shipper = Shipper("spans", lambda batch: not got.extend(batch), metrics, ship_seconds=3600)
    made_by: list[str] = []

    def make(number: int) -> None:
        made_by.append(threading.current_thread().name)
        if number == 1:
            raise RuntimeError("a defect of whoever builds it")
        shipper.put(number)

    for number in range(MADE_AT_ONCE + 2):
        shipper.later(partial(make, number))
    assert [threading.current_thread().name] * MADE_AT_ONCE == made_by
    shipper.close()
    assert ["ship-spans"] * 2 == made_by[MADE_AT_ONCE:]
    assert [0, *range(2, MADE_AT_ONCE + 2)] == got
    assert {"shipped": MADE_AT_ONCE + 1, "dropped": 0, "failed": 1} == _fates(metrics)


def test_a_backend_that_hangs_costs_what_is_over_the_bound_and_nobody_waits() -> None:
    metrics, let_go = Metrics(), threading.Event()
    taken: list[int] = []
    began = threading.Event()

    def send(batch: Sequence[int]) -> bool:
        taken.append(len(batch))
        began.set()
        assert let_go.wait(30)
        return True

    shipper = Shipper("spans", send, metrics, queue_items_max=100, ship_seconds=0.01)
    shipper.put(0)
    assert began.wait(10)
    for number in range(150):
        shipper.put(number)
    assert 50 == _fates(metrics)["dropped"]
    let_go.set()
    shipper.close()
    assert {"shipped": 101, "dropped": 50, "failed": 0} == _fates(metrics)


def test_a_backend_that_hangs_costs_the_end_of_a_process_one_bound_for_all_signals() -> None:
    metrics, let_go, spans = Metrics(), threading.Event(), list[ReadableSpan]()

    def send(batch: Sequence[int]) -> bool:
        return let_go.wait(30)

    shippers = [Shipper(signal, send, metrics, ship_seconds=0.01) for signal in ("spans", "logs")]
    for shipper in shippers:
        shipper.put(0)
    log = configure("door", stream=io.StringIO())
    telemetry = Telemetry("door", "door-1", log, metrics, Tracer("door", "door-1", spans.append), None, [*shippers])
    began = time.monotonic()
    telemetry.end(0.5)
    took_seconds = time.monotonic() - began
    let_go.set()
    # Half a second for each signal's queue, and as much for its thread, would be two.
    assert took_seconds < 1.5


@pytest.mark.parametrize("how", ["answers no", "raises"])
def test_a_backend_that_is_away_is_counted_and_healed_from(how: str) -> None:
    metrics, away = Metrics(), [True]

    def send(batch: Sequence[int]) -> bool:
        if away[0] and how == "raises":
            raise ConnectionError
        return not away[0]

    shipper = Shipper("spans", send, metrics, ship_seconds=0.01)
    for number in range(10):
        shipper.put(number)
    assert shipper.flush(10)
    assert {"shipped": 0, "dropped": 0, "failed": 10} == _fates(metrics)
    away[0] = False
    shipper.put(1)
    shipper.close()
    assert {"shipped": 1, "dropped": 0, "failed": 10} == _fates(metrics)


def test_a_line_goes_to_the_file_and_to_the_backend_without_personal_data() -> None:
    out, shipped = io.StringIO(), list[LogLine]()
    log = configure("redactor", "redactor-1", stream=out, ship=shipped.append, scrub=lambda text: text.replace("ann@", "[x]"))
    log.warning("dead letter", trace_id="4bf92f3577b34da6a3ce929d0e0e4736", event_id="ann@1", count=3)
    line = json.loads(out.getvalue())
    assert ("dead letter", "warning", "redactor", "redactor-1", "[x]1") == tuple(
        line[key] for key in ("event", "level", "part", "worker", "event_id")
    )
    (sent,) = shipped
    assert ("dead letter", "warning", "4bf92f3577b34da6a3ce929d0e0e4736") == (sent.event, sent.level, sent.trace_id)
    assert {"part": "redactor", "worker": "redactor-1", "event_id": "[x]1", "count": 3} == dict(sent.fields)


def test_a_line_that_repeats_is_held_back_and_counted() -> None:
    now, out = [0.0], io.StringIO()
    log = configure("door", stream=out, repeats=Repeats(3, 10.0, clock=lambda: now[0]))
    for _ in range(10):
        log.warning("the same")
    log.warning("another")
    now[0] = 11.0
    log.warning("the same")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [("the same", None)] * 3 + [("another", None), ("the same", 7)] == [
        (line["event"], line.get("held_back")) for line in lines
    ]
