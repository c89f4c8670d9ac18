"""`python -m pipeline.redactor`: a worker that turns `events` into `events-clean`, without personal data.

It does not start with a policy that has a hole (exit code 78, with the field's name), and stops at a batch without a key.
"""

import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import boto3

from pipeline.config import load
from pipeline.consumer.run import CALLS, Tools, run
from pipeline.consumer.stream import Processor
from pipeline.redaction.kms_keys import KmsKeys, RedactionSettings
from pipeline.redaction.policy import rules
from pipeline.redaction.redact import Redactor
from pipeline.redactor.worker import STAGE, RedactorWorker
from pipeline.schema.registry import Registry
from pipeline.streams.kinesis_writer import KinesisWriter
from telemetry.metrics import REDACTION_RULES

# Redaction is Python's own work: more threads would only take turns. The second is for while one waits for KMS.
POOL_THREADS = 2


@asynccontextmanager
async def build(tools: Tools) -> AsyncIterator[Processor]:
    """Raises: InvalidSchema: the policy is not complete."""
    settings = tools.settings
    keys = KmsKeys(
        tools.aws.watched(boto3.client("kms", region_name=settings.region, config=CALLS)),
        tools.aws.watched(boto3.client("s3", region_name=settings.region, config=CALLS)),
        bucket=settings.bucket,
        settings=load(RedactionSettings),
        clock=time.monotonic,
    )
    registry = Registry.load(settings.proto_dir)
    redactor = Redactor(registry, keys)
    for action, fields in rules(registry).items():
        tools.metrics.gauge(REDACTION_RULES, action=action).set(fields)
    writer = KinesisWriter.to(settings.clean_stream, settings.region, tools.metrics)
    with ThreadPoolExecutor(POOL_THREADS, "redact") as pool:
        try:
            yield RedactorWorker(
                redactor, writer, tools.letters, tools.metrics, pool, tools.tracer, settings.clean_stream, tools.tally
            )
        finally:
            await writer.close()


if __name__ == "__main__":
    sys.exit(run(STAGE, lambda settings: settings.events_stream, build))
