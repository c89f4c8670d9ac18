"""`python -m pipeline.transcoder`: a worker that turns `web-events` into typed events."""

import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.config import load
from pipeline.consumer.run import Tools, run
from pipeline.consumer.stream import Processor
from pipeline.errors import InvalidConfiguration
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.schema.registry import Registry
from pipeline.sdk.publisher import Answer, OnBehalf, Publisher
from pipeline.transcoder.worker import LANES_AT_ONCE_MAX, STAGE, Transcoder


@dataclass(frozen=True, slots=True)
class DoorSettings:
    SECTION: ClassVar[str] = ""

    collector: str = "127.0.0.1:50051"


@dataclass(frozen=True, slots=True)
class TranscoderSettings:
    SECTION: ClassVar[str] = "transcoder"

    # The gRPC door; if empty, the shared setting `collector` (SPILLWAY_COLLECTOR).
    target: str = ""
    # A key with the role "service"; or a file that holds it, which keeps it out of the environment.
    key: str = ""
    key_file: Path | None = None
    tls: bool = False
    publish_seconds_max: float = 20.0

    def service_key(self) -> str:
        """Raises: InvalidConfiguration."""
        if self.key_file is not None:
            try:
                return self.key_file.read_text().strip()
            except OSError as exc:
                raise InvalidConfiguration(f"[transcoder] key_file {self.key_file}: {exc.strerror}") from exc
        if not self.key:
            raise InvalidConfiguration("[transcoder] key or key_file must name a key with the role service")
        return self.key


@asynccontextmanager
async def build(tools: Tools) -> AsyncIterator[Processor]:
    settings = load(TranscoderSettings)
    registry = Registry.load(tools.settings.proto_dir)
    with (
        ThreadPoolExecutor(LANES_AT_ONCE_MAX, "publish") as pool,
        # Closed before the pool waits for its threads, so that none of them waits out a deadline.
        Publisher(settings.target or load(DoorSettings).collector, settings.service_key(), tls=settings.tls) as publisher,
    ):

        def publish(events: Sequence[CloudEvent], on_behalf: OnBehalf) -> list[Answer]:
            return publisher.publish(events, on_behalf=on_behalf, deadline_seconds=settings.publish_seconds_max)

        yield Transcoder(registry, publish, tools.letters, tools.metrics, pool, tools.tracer, tools.tally)


if __name__ == "__main__":
    sys.exit(run(STAGE, lambda settings: settings.web_stream, build))
