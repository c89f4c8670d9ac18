"""One live world for all tests that look at dashboards or the console: stand-in pipeline, Prometheus, trace store, console.

It needs a minute and more until rates, peaks and forecasts have something to say. So it begins as soon as a test of this run is
known to want it, and grows old while others run.
"""

import contextlib
import tempfile
from pathlib import Path

import pytest

from tests.console.live import Live, live

# Of the usual pace of the stand-in's errors: some, so that no panel of errors is empty.
TROUBLE = 1.0
BEGUN = pytest.StashKey[Live | Exception]()


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any("world" in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    ends = contextlib.ExitStack()
    session.config.add_cleanup(ends.close)
    folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="spillway-world-"))
    try:
        session.config.stash[BEGUN] = ends.enter_context(live(Path(folder), trouble=TROUBLE))
    except Exception as exc:  # noqa: BLE001 - told by the tests that want it
        session.config.stash[BEGUN] = exc


@pytest.fixture(scope="session")
def world(pytestconfig: pytest.Config) -> Live:
    begun = pytestconfig.stash[BEGUN]
    if isinstance(begun, Exception):
        raise begun
    return begun
