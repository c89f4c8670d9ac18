"""What a worker's journal leaves in the metrics and in the log."""

import io
import json

import pytest

from pipeline.consumer.journal import BLIND_SECONDS_MAX, NO_SHARD, LoggedJournal
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


def test_an_idle_worker_shows_every_kind_of_failure_as_zero_and_a_lag_of_zero(journal: LoggedJournal) -> None:
    shown = journal.metrics.exposition().decode()
    for kind in ("downstream", "permanent", "poison", "unavailable", "failed", "lost", "vanished", "blind"):
        assert f'{CONSUMER_FAILURES.name}{{kind="{kind}",part="redactor"}} 0.0' in shown
    assert f'{CONSUMER_BEHIND_SECONDS.name}{{part="redactor",shard="{NO_SHARD}"}} 0.0' in shown


def test_a_worker_that_can_not_look_for_shards_falls_behind_until_it_can() -> None:
    """TRAPS 30: or one that is blind would read as well."""
    now = [1000.0]
    journal = LoggedJournal("redactor", Metrics(), configure("redactor", stream=io.StringIO()), now_seconds=lambda: now[0])

    def behind() -> float:
        return journal.metrics.value(CONSUMER_BEHIND_SECONDS, part="redactor", shard=NO_SHARD)

    for _ in range(10):
        journal(Happening("blind", "", detail="Unavailable"))
        now[0] += 10.0
    assert 100.0 == behind()
    now[0] += BLIND_SECONDS_MAX
    assert 0.0 == behind()
    journal(Happening("blind", ""))
    now[0] += 5.0
    assert 5.0 == behind()


def test_a_line_names_hop_stream_shard_and_sequence_number(log: io.StringIO) -> None:
    journal = LoggedJournal("redactor", Metrics(), configure("redactor", scrub=mask, stream=log), stream="events")
    journal(Happening("buried", "shardId-000000000001", "49680000000000000000000000000000000000000000000000000018", 1))
    line = json.loads(log.getvalue())
    assert ("redactor", "events", "shardId-000000000001", "49680000000000000000000000000000000000000000000000000018") == tuple(
        line[name] for name in ("hop", "stream", "shard", "sequence_number")
    )
