"""What a gRPC sender says of its rounds in the SDK's figures."""

from collections.abc import Iterator

import pytest

from canary import probes
from canary.probes import Probe
from canary.send import ACCEPTED, REJECTED, UNANSWERED, GrpcSender, Sent
from telemetry.metrics import SDK_BUFFER_BYTES, SDK_BUFFER_LIMIT_BYTES, SDK_EVENTS, SDK_PENDING_EVENTS, SDK_SEND_SECONDS, Metrics

ROUND = [Probe("/canary/test", number, "grpc", number, 1_795_000_000.0, 1) for number in range(4)]
ANSWERS = [Sent(ACCEPTED), Sent(ACCEPTED), Sent(REJECTED, "late"), Sent(UNANSWERED)]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def sender(metrics: Metrics) -> Iterator[GrpcSender]:
    made = GrpcSender("127.0.0.1:1", "key", deadline_seconds=0.2, metrics=metrics)
    yield made
    made.close()


def outcomes(metrics: Metrics) -> dict[str, float]:
    found = {name: metrics.value(SDK_EVENTS, outcome=name) for name in ("accepted", "rejected", "given_up", "unclear")}
    return {name: value for name, value in found.items() if value}


def test_a_round_is_told_by_its_answers_and_held_only_while_it_is_under_way(
    metrics: Metrics, sender: GrpcSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[float] = []

    def answered(self: GrpcSender, events: object) -> list[Sent]:
        held.extend((metrics.value(SDK_PENDING_EVENTS), metrics.value(SDK_BUFFER_BYTES)))
        return ANSWERS

    monkeypatch.setattr(GrpcSender, "send_events", answered)
    assert ANSWERS == sender.send(ROUND)
    assert {"accepted": 2, "rejected": 1, "given_up": 1} == outcomes(metrics)
    assert held[0] == 4
    assert 0 < held[1] < metrics.value(SDK_BUFFER_LIMIT_BYTES)
    assert (0, 0) == (metrics.value(SDK_PENDING_EVENTS), metrics.value(SDK_BUFFER_BYTES))


def test_a_door_that_is_not_there_leaves_its_mark_in_outcome_and_latency(metrics: Metrics, sender: GrpcSender) -> None:
    assert {UNANSWERED} == {each.outcome for each in sender.send(ROUND)}
    assert {"given_up": 4} == outcomes(metrics)
    lines = metrics.exposition().decode().splitlines()
    seconds, count = (
        next(float(line.split()[-1]) for line in lines if line.startswith(SDK_SEND_SECONDS.name + suffix))
        for suffix in ("_sum", "_count")
    )
    assert count == 4
    assert seconds > 4 * 0.1, "a door that is not there looks quick"


def test_what_the_checks_send_to_be_refused_is_none_of_it(metrics: Metrics, sender: GrpcSender) -> None:
    sender.send_events([probes.protobuf(probe) for probe in ROUND])
    assert {} == outcomes(metrics)
