"""Sending events, in three lines.

    client = Client("127.0.0.1:50051", api_key="spw_...")
    client.send(PageViewed(page_url="https://example.com/"), subject="user-1")
    client.close()

Rules. `send` gives the event its id and time, holds it, and returns; a background thread sends batches. With a spool the event
is on disk before `send` returns, and what a killed process left behind is sent by the next client on that folder, with the ids
it had. Full buffers are told to the caller: `send` waits for room, or raises BufferFull at once, by choice. An event that can't
be delivered is told three times: by its Delivery, by `on_rejected`, in `stats`. One client serves all threads of one process;
a forked child makes its own. What becomes of events is reported as well (pipeline/sdk/telemetry.py), which costs a comparison
for an event that is not traced and never decides an event's fate.
"""

import atexit
import contextlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf.message import Message

from pipeline.errors import DeadlineExceeded, InvalidConfiguration, InvalidEvent, SpillwayError
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.sdk.answers import Rejected
from pipeline.sdk.delivery import Delivery, Semantics, Stats
from pipeline.sdk.envelope import CANARY, IdSource, TraceSource, envelope, now_unix_micros, opentelemetry_trace, time_micros
from pipeline.sdk.outbox import BufferFull, MemoryOutbox, Outbox
from pipeline.sdk.publisher import REQUEST_BYTES_MAX, DeliveryMode, ForkedProcess, Publisher
from pipeline.sdk.rejected import RejectedFolder
from pipeline.sdk.report import Kept
from pipeline.sdk.sender import LOG, OnRejected, PublishesEncoded, Sender, SenderOptions, log_rejected
from pipeline.sdk.spool import Spool, SpoolOptions
from pipeline.sdk.telemetry import Reports, SdkTelemetry, report_of

if TYPE_CHECKING:
    from pipeline.schema.registry import Registry
    from telemetry.tracing import Trace

__all__ = ["BufferFull", "Client", "ClientOptions", "Delivery", "SdkTelemetry", "Semantics", "Stats"]

_MAY_BE_TRACED = (b"traceparent", CANARY.encode())


def _deployed_types() -> "Registry":
    """Loaded when an event is first given by its type's name: whoever sends messages does not pay for it."""
    from pipeline.schema.registry import Registry

    return Registry.load()


@dataclass(frozen=True, slots=True)
class ClientOptions:
    # Without a spool: what is held in memory until it is answered.
    buffer_bytes_max: int = 32 * 1024 * 1024
    # `send` waits so long for room ("block"), or not at all ("raise").
    on_full: Literal["block", "raise"] = "block"
    block_seconds_max: float = 60.0
    # How long leaving a `with` block, and `close`, wait for what is pending.
    close_seconds_max: float = 30.0
    # The same at the end of the program, for a client that nobody closed.
    exit_seconds_max: float = 5.0
    sender: SenderOptions = field(default_factory=SenderOptions)
    spool: SpoolOptions = field(default_factory=SpoolOptions)


class Client:
    """Sends events of one API key, hence of one tenant."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        api_key: str = "",
        *,
        source: str = "/spillway/sdk/python",
        semantics: Semantics = Semantics.EFFECTIVELY_ONCE,
        spool: Path | str | None = None,
        tls: bool = False,
        on_rejected: OnRejected = log_rejected,
        options: ClientOptions | None = None,
        publisher: PublishesEncoded | None = None,
        registry: "Callable[[], Registry] | None" = None,
        trace: TraceSource | None = None,
        telemetry: Reports | None = None,
    ) -> None:
        """`source` is half of an event's identity: two senders that make ids of their own need two sources. `telemetry`: by
        default that of the environment, which this client ends itself; `SdkTelemetry()` is none.

        Raises:
            InvalidConfiguration: a spool with at most once, which would send again what may have been sent; or a setting of
                telemetry is wrong.
            SpoolLocked: another client uses the spool's folder.
        """
        if spool is not None and semantics is Semantics.AT_MOST_ONCE:
            raise InvalidConfiguration("a spool sends again after a crash, which at-most-once forbids: leave one of them out")
        self.options = options or ClientOptions()
        self._source = source
        self._registry_loader = registry or _deployed_types
        self._registry: Registry | None = None
        self._trace = trace or opentelemetry_trace()
        self._ids = IdSource()
        self._pid = os.getpid()
        self._closed = False
        delivery: DeliveryMode = "fire-and-forget" if semantics is Semantics.AT_MOST_ONCE else "guaranteed"
        self._own_telemetry = SdkTelemetry.from_environment() if telemetry is None else SdkTelemetry()
        try:
            self._spool = Spool(Path(spool), self.options.spool) if spool is not None else None
        except BaseException:
            self._own_telemetry.end()
            raise
        self._rejected = RejectedFolder(Path(spool) / "rejected") if spool is not None else None
        if self._spool is not None and self._rejected is not None:
            self._spool.other_bytes = self._rejected.bytes_used
            self._say_what_was_found(self._spool)
        outbox: Outbox = self._spool or MemoryOutbox(self.options.buffer_bytes_max)
        self._report = report_of(self._own_telemetry if telemetry is None else telemetry)
        self._spans = None if self._report is None else self._report.spans
        if self._report is not None:
            self._report.opened(outbox)
        self._sender = Sender(
            outbox,
            publisher or Publisher(target, api_key, delivery=delivery, tls=tls),
            self.options.sender,
            durable_outbox=self._spool is not None,
            on_rejected=on_rejected,
            keep_rejected=self._keep_rejected if self._rejected is not None else None,
            report=self._report,
        )
        self._sender.start()
        atexit.register(self._close_at_exit)

    def send(
        self,
        event: Message | str,
        data: Mapping[str, Any] | None = None,
        *,
        subject: str = "",
        id: str = "",
        source: str = "",
        time: datetime | None = None,
        partition_key: str = "",
        traceparent: str = "",
        canary: str = "",
        extensions: Mapping[str, str] | None = None,
    ) -> Delivery:
        """Send one event: a message of an event type, or the type's name and its fields as in JSON.

        `subject` is what the event is about; the events of one subject stay together. `time` is when it happened: now. Give an
        `id` of your own if you may call `send` again for the same thing. `traceparent` (W3C; by default OpenTelemetry's current
        span) is the trace that the event belongs to; `canary` marks an event that is sent to be looked for, so that it is always
        traced. `.result()` on what comes back waits for the answer.

        Raises:
            InvalidEvent: the type is unknown, a field does not fit it, or the event is too large for any request.
            BufferFull: no room, after the wait that the options allow.
            SpoolFailed: the disk did not take it; the event is not sent.
            ClientClosed, ForkedProcess: this client can't send any more.
        """
        if os.getpid() != self._pid:
            raise ForkedProcess("this client was made before a fork; make one in the child process")
        message = event if isinstance(event, Message) else self._message(event, data or {})
        now = now_unix_micros()
        spans = self._spans
        if id:
            checksum = zlib.crc32(id.encode()) if spans is not None else 0
        else:
            id, checksum = self._ids.new_with_checksum(now)
        source = source or self._source
        traceparent = traceparent or self._trace()
        made = envelope(
            id=id,
            source=source,
            type=message.DESCRIPTOR.full_name,
            data=message.SerializeToString(),
            time_unix_micros=now if time is None else time_micros(time),
            subject=subject,
            partition_key=partition_key,
            traceparent=traceparent,
            canary=canary,
            extensions=extensions,
        )
        trace = None
        if spans is not None and (checksum < spans.by_chance_below or traceparent or canary):
            trace = spans.trace(source, id, traceparent, bool(canary))
            if trace is not None:
                spans.stamp(made, trace)
        return self._hold(made, made.SerializeToString(), id, now * 1_000, trace)

    def send_event(self, event: CloudEvent) -> Delivery:
        """Send a CloudEvent that is complete already: id, source, type and time are the caller's, and so is its trace context.
        It goes out as it is; if it is traced, its span here and the door's stand side by side in its trace.

        Raises: as `send`.
        """
        if os.getpid() != self._pid:
            raise ForkedProcess("this client was made before a fork; make one in the child process")
        encoded, id = event.SerializeToString(), event.id
        trace, spans = None, self._spans
        if spans is not None and (
            zlib.crc32(id.encode()) < spans.by_chance_below or any(name in encoded for name in _MAY_BE_TRACED)
        ):
            trace = spans.trace_of_complete(event)
        return self._hold(event, encoded, id, now_unix_micros() * 1_000, trace)

    def _hold(self, event: CloudEvent, encoded: bytes, id: str, began_ns: int, trace: "Trace | None") -> Delivery:
        kept = None if trace is None else Kept(trace, began_ns, event.type)
        try:
            if len(encoded) > REQUEST_BYTES_MAX - 64:
                raise InvalidEvent("too_large", f"the event has {len(encoded)} bytes; a request holds {REQUEST_BYTES_MAX}")
            block_seconds = self.options.block_seconds_max if self.options.on_full == "block" else 0.0
            return self._sender.submit(id, encoded, block_seconds, kept)
        except SpillwayError as exc:
            if self._report is not None:
                self._report.not_taken(event, kept, began_ns, exc)
            raise

    def _message(self, type: str, data: Mapping[str, Any]) -> Message:
        if self._registry is None:
            self._registry = self._registry_loader()
        return self._registry.find(type).from_json(json.dumps(data))

    @property
    def stats(self) -> Stats:
        return self._sender.stats

    def flush(self, timeout_seconds: float = 30.0) -> None:
        """Block until everything that was sent has its final answer.

        Raises:
            DeadlineExceeded: something has not; the client goes on trying.
        """
        self._sender.flush(timeout_seconds)

    def close(self, timeout_seconds: float | None = None) -> None:
        """Flush, then stop. What is in a spool stays there for the next client.

        Raises:
            DeadlineExceeded: without a spool, when events had to be given up on; each was told to `on_rejected` before.
        """
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        atexit.unregister(self._close_at_exit)
        wait_seconds = self.options.close_seconds_max if timeout_seconds is None else timeout_seconds
        try:
            with contextlib.suppress(DeadlineExceeded):
                self._sender.flush(wait_seconds)
        finally:  # a Ctrl-C while it waits must not leave the thread and the lock behind
            try:
                given_up = self._sender.close(join_seconds_max=5.0)
            finally:
                self._own_telemetry.end()
        if given_up:
            raise DeadlineExceeded(f"{given_up} events were not acknowledged in {wait_seconds} s and given up on")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()
            return
        if not isinstance(error, KeyboardInterrupt):
            wait_seconds = self.options.close_seconds_max
        else:  # whoever pressed Ctrl-C does not want to wait; a spool keeps everything
            wait_seconds = 0.0 if self._spool is not None else self.options.exit_seconds_max
        try:
            self.close(wait_seconds)
        except DeadlineExceeded as exc:  # the error that ends the block matters more
            LOG.error("%s", exc)

    def _keep_rejected(self, event: CloudEvent, rejected: Rejected) -> None:
        assert self._rejected is not None
        assert self._spool is not None
        self._spool.other_bytes += self._rejected.keep(event, rejected, now_unix_micros())

    @staticmethod
    def _say_what_was_found(spool: Spool) -> None:
        if spool.pending_count:
            LOG.info("%s: %d events of an earlier process are sent first", spool.folder, spool.pending_count)
        if spool.damaged_segments:
            LOG.error("%s: %d segments are damaged; what was hit is kept in .damaged files", spool.folder, spool.damaged_segments)

    def _close_at_exit(self) -> None:
        """A client that nobody closed lives until the end of the program, so that what it holds is not lost in silence."""
        try:
            self.close(self.options.exit_seconds_max)
        except DeadlineExceeded as exc:
            LOG.error("at the end of the program: %s", exc)
