"""The fixture for users' tests, used as they use it."""

import pytest

from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.sdk.pytest_plugin import spillway_events, spillway_registry
from pipeline.sdk.testing import SpillwayEvents

__all__ = ["spillway_events", "spillway_registry"]

pytest_plugins = ["pytester"]

USERS_TEST = """
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed

def test_breaks_a_rule_and_does_not_look(spillway_events):
    spillway_events.client.send(PageViewed(), subject="user-1")

def test_breaks_a_rule_and_looks(spillway_events):
    spillway_events.client.send(PageViewed(), subject="user-1")
    (rejected,) = spillway_events.rejected
    assert rejected.reason == "rule"
"""


def test_what_was_sent_can_be_asserted(spillway_events: SpillwayEvents) -> None:
    spillway_events.client.send(PageViewed(page_url="https://example.com/"), subject="user-1")
    spillway_events.client.send("spillway.events.v1.ProfileChanged", {"city": "Toronto"}, subject="user-1")
    (page,) = spillway_events.of_type(PageViewed)
    assert ("user-1", PageViewed(page_url="https://example.com/")) == (page.subject, page.message)
    assert ["PageViewed", "ProfileChanged"] == [sent.type.rpartition(".")[2] for sent in spillway_events.all]


def test_the_same_id_twice_is_one_event(spillway_events: SpillwayEvents) -> None:
    for _ in range(2):
        spillway_events.client.send(PageViewed(page_url="https://example.com/"), id="mine")
    assert ["mine"] == [sent.event.id for sent in spillway_events.all]


def test_a_rejected_event_fails_the_test_that_does_not_look(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["pipeline.sdk.pytest_plugin"]')
    pytester.makepyfile(USERS_TEST)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*1 events were rejected*page_url*"])
