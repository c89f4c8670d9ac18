"""What can be set at the doors. Sections `door` (both), `grpc` and `http`; variables such as SPILLWAY_GRPC_PORT."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class DoorSettings:
    SECTION: ClassVar[str] = "door"

    # Bytes of requests taken in and not yet settled, for one process; past it the answer is "later".
    in_flight_bytes: int = 64 * 1024 * 1024
    # The part of it that one tenant may hold.
    tenant_share: float = 0.5
    # From acceptance to the last attempt to write.
    write_seconds: float = 10.0
    # One PutRecords call.
    attempt_seconds: float = 3.0
    # PutRecords calls in flight.
    calls_max: int = 4
    # Payload of one Kinesis record.
    record_bytes: int = 1_000_000
    event_bytes: int = 256 * 1024
    request_events: int = 500
    request_bytes: int = 4 * 1024 * 1024
    # Between "not ready" and "no new connections": as long as the balancer takes to notice.
    drain_wait_seconds: float = 0.2
    # For what is in flight then; shorter than the kill (ECS: 30 s) together with the wait.
    drain_budget_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    SECTION: ClassVar[str] = "grpc"

    host: str = "127.0.0.1"
    port: int = 50051
    # Processes that share the port (SO_REUSEPORT): one a core.
    workers: int = 1
    # After this a connection is told to go elsewhere, so that a balancer spreads it anew; streams end before it by themselves.
    connection_age_seconds: float = 300.0
    stream_seconds_max: float = 240.0
    keepalive_seconds: float = 60.0
    # Of one stream, taken and not yet answered; then the door stops reading it.
    stream_window_events: int = 1000
    stream_window_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpSettings:
    SECTION: ClassVar[str] = "http"

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    # Origins whose pages may post here, such as https://shop.example; "*" for all.
    cors_origins: tuple[str, ...] = ()
    # For the whole body of a request to arrive.
    body_seconds: float = 10.0
    keepalive_seconds: int = 30
