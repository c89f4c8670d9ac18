"""A pytest fixture for tests of code that sends events: `spillway_events` (pipeline/sdk/testing.py).

    def test_a_visit_is_reported(spillway_events):
        my_app.visit(spillway_events.client)
        (sent,) = spillway_events.of_type(PageViewed)
        assert sent.message.page_url == "https://example.com/"

An event that breaks the schema is rejected with the reason that the collector would give, is in `rejected`, and fails the test
at its end unless the test looked there. Installed with Spillway (entry point `pytest11`), or by
`pytest_plugins = ["pipeline.sdk.pytest_plugin"]` in a conftest. Imports are in the fixtures: a test run that does not use them
does not pay for them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pipeline.schema.registry import Registry
    from pipeline.sdk.testing import SpillwayEvents


@pytest.fixture(scope="session")
def spillway_registry() -> "Registry":
    """The event types; override it to load a folder of your own: `Registry.load(Path("proto"))`."""
    from pipeline.schema.registry import Registry

    return Registry.load()


@pytest.fixture
def spillway_events(spillway_registry: "Registry") -> "Iterator[SpillwayEvents]":
    """An in-memory collector and a client that sends to it."""
    from pipeline.sdk.testing import SpillwayEvents

    events = SpillwayEvents(spillway_registry)
    try:
        yield events
        complaint = events.complaint()
        if complaint:
            pytest.fail(complaint)
    finally:
        events.close()
