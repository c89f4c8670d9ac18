"""`python -m pipeline.etl`: the ETL as a process. The composition root: settings are read here and nowhere else."""

import os
import random
import signal
import sys
import threading
import traceback
from pathlib import Path

from pipeline.config import Settings, load
from pipeline.etl import session as spark_session
from pipeline.etl.exits import ExitLoader, LakeExit, RdsExit, RedisExit
from pipeline.etl.job import ExitQuery, Stream, register, run_queries
from pipeline.etl.settings import EtlSettings, RdsSettings, RedisSettings
from pipeline.etl.work import Place
from telemetry.health import Health
from telemetry.log import configure
from telemetry.metrics import Metrics


def main() -> int:
    shared, etl = load(Settings), load(EtlSettings)
    log = configure("etl", shared.worker)
    metrics = Metrics()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    health = Health(metrics, shared.health_port) if shared.health_port is not None else None
    session = spark_session.start(etl.master, Path(shared.state_dir).resolve() / "etl")
    register(session)
    stream = Stream(
        shared.clean_stream,
        shared.region,
        etl.batch_span_seconds,
        etl.trigger_seconds,
        etl.checkpoints(shared),
        etl.restart_seconds_max,
    )
    queries = [ExitQuery(session, stream, one, metrics, log, rng=random.Random()) for one in exits(shared, etl)]

    def ready() -> None:
        log.info("ready", exits=list(etl.exits), stream=stream.name)
        if health is not None:
            health.set_ready(True)

    try:
        run_queries(session, queries, stopping, ready)
    finally:
        if health is not None:
            health.set_ready(False)
    session.stop()
    log.info("stopped")
    return 0


def exits(shared: Settings, etl: EtlSettings) -> list[ExitLoader]:
    """The loaders of the exits that are asked for."""
    place = Place(f"s3://{shared.bucket}", shared.region, str(shared.proto_dir.resolve()) if shared.proto_dir else "")
    made: dict[str, ExitLoader] = {
        "lake": LakeExit(place, etl.lake(shared), etl.compact_files),
        "rds": RdsExit(place, load(RdsSettings).url),
        "redis": RedisExit(place, load(RedisSettings).url),
    }
    return [made[name] for name in etl.exits]


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    finally:
        if code:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # Spark's threads are not worth waiting for, and with Spark gone they would wait for ever
