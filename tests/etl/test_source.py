"""Our Spark source in a session of several queries."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.errors import StreamingQueryException

from pipeline.etl import session as spark_session
from pipeline.etl.job import register
from pipeline.etl.settings import EtlSettings
from pipeline.etl.source import format_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.timeout(180)]
# One that Spark sets for the process that asks a source for its offsets.
SET_BY_SPARK = "SPARK_BUFFER_SIZE"
# Where a session that was killed keeps what it needs no more.
LEFT = "blockmgr-of-a-session-that-was-killed"


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[SparkSession]":
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    (tmp_path / "scratch" / LEFT).mkdir(parents=True)
    started = spark_session.start("local[2]", tmp_path)
    try:
        yield started
    finally:
        started.stop()


def environment_of(session: "SparkSession", exit: str) -> Any:
    """What Spark keeps for the processes of a registered source: a Java map."""
    sources: Any = session._jsparkSession.sessionState().dataSourceManager()
    return sources.lookupDataSource(format_of(exit)).dataSourceCls().envVars()


@pytest.mark.slow
def test_a_query_that_begins_writes_into_no_other_querys_environment(session: "SparkSession", tmp_path: Path) -> None:
    """Shared by two that begin at once, the map is broken for good, and with it every task of every exit."""
    lake, rds, redis = EtlSettings().exits
    register(session, (lake, rds, redis))
    query = (
        session.readStream.format(format_of(lake))
        .options(stream="events-clean", region="us-east-1")
        .load()
        .writeStream.foreachBatch(lambda *_: None)
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .start()
    )
    with pytest.raises(StreamingQueryException, match="latestOffset"):  # it has begun, and there is no stream
        query.awaitTermination(120)
    assert {lake: True, rds: False, redis: False} == {
        exit: environment_of(session, exit).containsKey(SET_BY_SPARK) for exit in (lake, rds, redis)
    }


@pytest.mark.slow
def test_what_a_killed_session_left_is_gone_and_nothing_lies_elsewhere(session: "SparkSession", tmp_path: Path) -> None:
    assert not (tmp_path / "scratch" / LEFT).exists()
    jvm: Any = session._jvm
    # One Java for all tests of a process: the first one's folder.
    assert "scratch" == Path(jvm.java.lang.System.getProperty("java.io.tmpdir")).name
