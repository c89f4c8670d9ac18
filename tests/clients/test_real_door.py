"""Both clients at the real gRPC door, with a stream behind it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import InvalidEvent, Refused
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.sdk.answers import Accepted
from pipeline.sdk.client import Client, Semantics
from tests.clients.node_client import require_node, send
from tests.doors.processes import Running, wait_for

pytestmark = pytest.mark.stack

TYPE = "spillway.events.v1.PageViewed"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Running]:
    running = Running("grpc", tmp_path)
    try:
        running.start_stream()
        running.start_door()
        yield running
    finally:
        running.stop()


def test_the_python_sdk_at_the_real_door(door: Running, tmp_path: Path) -> None:
    """What the SDK calls accepted is in the stream, a spool is drained, a key and a rule are refused by name."""
    target = f"127.0.0.1:{door.port}"
    with Client(target, door.key, spool=tmp_path / "spool", on_rejected=lambda event, error: None) as client:
        sent = [client.send(PageViewed(page_url=f"https://example.com/{n}"), subject=f"user-{n % 7}") for n in range(1200)]
        bad = client.send(PageViewed(), subject="user-1")
        with pytest.raises(InvalidEvent) as refused:
            bad.result(20.0)
        assert [Accepted()] * 1200 == [delivery.result(20.0) for delivery in sent]
    assert "rule" == refused.value.reason
    assert {delivery.id: 1 for delivery in sent} == dict(door.stored())
    with Client(target, "spw_no_key") as stranger, pytest.raises(Refused):
        stranger.send(PageViewed(page_url="https://example.com/")).result(20.0)
    with Client(target, door.key, semantics=Semantics.AT_MOST_ONCE) as careless:
        last = careless.send(PageViewed(page_url="https://example.com/last"))
        assert Accepted(durable=False) == last.result(20.0)
    wait_for(lambda: door.stored()[last.id] == 1, "a queued event did not reach the stream")


def test_node_at_the_real_door(door: Running) -> None:
    require_node()
    lines = [
        {"type": TYPE, "id": "good", "subject": "user-1", "data": {"page_url": "https://example.com/"}},
        {"type": TYPE, "id": "bad", "subject": "user-1", "data": {"page_url": ""}},
    ]
    code, answers, _ = send(f"127.0.0.1:{door.port}", door.key, lines)
    assert (1, [["good", "accepted"], ["bad", "rejected", "rule"]]) == (code, [answer[:3] for answer in answers])
    assert {"good": 1} == dict(door.stored())
    code, _, complaint = send(f"127.0.0.1:{door.port}", "spw_no_key", lines)
    assert 1 == code
    assert "UNAUTHENTICATED" in complaint
