"""What a worker's journal leaves in the metrics and in the log."""

import io
import json

import pytest

from pipeline.consumer.journal import LoggedJournal
from pipeline.consumer.reader import Happening
from telemetry.log import configure
from telemetry.metrics import CONSUMER_BEHIND_SECONDS, CONSUMER_FAILURES, CONSUMER_PROGRESS, CONSUMER_RECORDS, Metrics
from telemetry.personal_data import mask


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def journal(log: io.StringIO) -> LoggedJournal:
    return LoggedJournal("redactor", Metrics(), configure("redactor", scrub=mask, stream=log), now_seconds=lambda: 1000.0)


def shown(journal: LoggedJournal) -> bool:
    return CONSUMER_PROGRESS.name + "{" in journal.metrics.exposition().decode()


def test_a_checkpoint_counts_records_and_says_how_far_behind_and_when(journal: LoggedJournal, log: io.StringIO) -> None:
    journal(Happening("checkpointed", "s0", "7", 12, behind_seconds=3.5))
    labels = {"part": "redactor", "shard": "s0"}
    values = [journal.metrics.value(metric, **labels) for metric in (CONSUMER_BEHIND_SECONDS, CONSUMER_PROGRESS)]
    assert [3.5, 1000.0] == values
    assert 12 == journal.metrics.value(CONSUMER_RECORDS, part="redactor")
    assert "" == log.getvalue()


def test_an_idle_shard_shows_that_it_is_read(journal: LoggedJournal, log: io.StringIO) -> None:
    journal(Happening("idle", "s0", "7"))
    assert 1000.0 == journal.metrics.value(CONSUMER_PROGRESS, part="redactor", shard="s0")
    assert "" == log.getvalue()


def test_a_shard_that_stopped_keeps_showing_when_it_last_moved() -> None:
    """TRAPS 30."""
    journal = LoggedJournal("redactor", Metrics(), configure("redactor", stream=io.StringIO()))
    journal(Happening("checkpointed", "s0", "7"))
    journal(Happening("stopped", "s0", "downstream"))
    journal(Happening("released", "s0"))
    assert shown(journal)
    journal(Happening("handed_over", "s0"))
    assert not shown(journal)


@pytest.mark.parametrize("what", ["released", "lost", "ended"])
def test_a_shard_that_is_not_ours_any_more_is_not_shown(journal: LoggedJournal, what: str) -> None:
    journal(Happening("checkpointed", "s0", "7"))
    journal(Happening(what, "s0"))  # type: ignore[arg-type]
    assert not shown(journal)


def test_a_stop_is_counted_by_its_kind_and_said_without_personal_data(journal: LoggedJournal, log: io.StringIO) -> None:
    journal(Happening("stopped", "s0", "downstream", detail="Unavailable: ann.seed@example.com"))
    assert 1 == journal.metrics.value(CONSUMER_FAILURES, part="redactor", kind="downstream")
    line = json.loads(log.getvalue())
    assert ("stopped", "s0") == (line["event"], line["shard"])
    assert "ann.seed" not in log.getvalue()
