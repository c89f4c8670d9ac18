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
from telemetry.metrics import Metrics
from telemetry.personal_data import mask
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings
from telemetry.tracing import Keeping


def main() -> int:
    shared, etl = load(Settings), load(EtlSettings)
    telemetry = Telemetry.begin("etl", shared.worker, load(TelemetrySettings), health_port=shared.health_port, scrub=mask)
    try:
        return serve(shared, etl, telemetry)
    finally:
        telemetry.end()


def serve(shared: Settings, etl: EtlSettings, telemetry: Telemetry) -> int:
    """Run the queries until a signal."""
    log, tracer = telemetry.log, telemetry.tracer
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    session = spark_session.start(etl.master, Path(shared.state_dir).resolve() / "etl")
    register(session, etl.exits)
    stream = Stream(
        shared.clean_stream,
        shared.region,
        etl.batch_span_seconds,
        etl.trigger_seconds,
        etl.checkpoints(shared),
        etl.restart_seconds_max,
    )
    loaders = exits(shared, etl, tracer.keeping if tracer.on else None, telemetry.metrics)
    queries = [
        ExitQuery(session, stream, one, telemetry.metrics, log, tracer, rng=random.Random(), stopping=stopping) for one in loaders
    ]

    def ready() -> None:
        log.info("ready", exits=list(etl.exits), stream=stream.name)
        telemetry.set_ready(True)

    try:
        run_queries(session, queries, stopping, ready)
    finally:
        telemetry.set_ready(False)
    session.stop()
    log.info("stopped")
    return 0


def exits(shared: Settings, etl: EtlSettings, keeping: Keeping | None, metrics: Metrics) -> list[ExitLoader]:
    """The loaders of the exits that are asked for. `keeping`: which events are traced."""
    proto_dir = str(shared.proto_dir.resolve()) if shared.proto_dir else ""
    place = Place(f"s3://{shared.bucket}", shared.region, proto_dir, keeping)
    made: dict[str, ExitLoader] = {
        "lake": LakeExit(place, etl.lake(shared), etl.compact_files, metrics),
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
