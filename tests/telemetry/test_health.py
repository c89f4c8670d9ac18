"""The health port as a balancer and Prometheus see it."""

import urllib.error
import urllib.request

from telemetry.health import Health
from telemetry.metrics import CATALOGUE, DEAD_LETTERS, Metrics


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_readiness_is_no_until_told_and_again_in_a_drain() -> None:
    health = Health(Metrics(), 0)
    try:
        story = [_get(health.port, "/readyz")[0]]
        health.set_ready(True)
        story.append(_get(health.port, "/readyz")[0])
        health.set_ready(False)
        story += [_get(health.port, "/readyz")[0], _get(health.port, "/livez")[0]]
        assert [503, 200, 503, 200] == story
    finally:
        health.close()


def test_what_is_counted_is_exposed() -> None:
    metrics = Metrics()
    metrics.counter(DEAD_LETTERS, stage="transcoder", reason="bad_json").inc(3)
    health = Health(metrics, 0)
    try:
        status, body = _get(health.port, "/metrics")
        assert (200, True) == (status, 'spillway_dead_letters_total{reason="bad_json",stage="transcoder"} 3.0' in body)
    finally:
        health.close()


def test_what_a_part_tells_is_made_when_it_is_asked_for() -> None:
    health, told = Health(Metrics(), 0), [b"1", b"2"]
    try:
        assert 404 == _get(health.port, "/ledger.json")[0]
        health.add_page("/ledger.json", lambda: told.pop(0))
        assert [(200, "1"), (200, "2")] == [_get(health.port, "/ledger.json") for _ in range(2)]
    finally:
        health.close()


def test_metric_names_are_unique_and_carry_their_unit() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert sorted(set(names)) == sorted(names)
    # The last: a yes or no, 1 or 0.
    units = ("_total", "_seconds", "_bytes", "_events", "_items", "_per_second", "_usable")
    assert [] == [name for name in names if not name.endswith(units)]
