"""What the store may be told, and its bounds."""

from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
MIB = 1 << 20
# One request over HTTP, unpacked. The SDKs send at most 512 spans at a time, well under 1 MiB.
REQUEST_BYTES_MAX = 16 * MIB
# One message over gRPC: gRPC's own default, and the OpenTelemetry collector's.
MESSAGE_BYTES_MAX = 4 * MIB
BYTES_MAX_MIN = 4 * MIB


@dataclass(frozen=True, slots=True)
class StoreSettings:
    folder: Path
    host: str = "127.0.0.1"
    grpc_port: int = 4317
    http_port: int = 4318
    health_port: int = 0
    # Spans and lines older than this, by the time they arrived, go.
    retention_seconds: float = 72 * 3600.0
    # Past so many bytes on disk the oldest go.
    bytes_max: int = 2 * GIB
    # An event's trace is judged so long after its first span arrived.
    judge_seconds: float = 180.0
    # Requests that are being received and read; past it they are refused unread.
    reading_bytes_max: int = 64 * MIB
    # Read and not yet written; past it senders are told to come again later.
    waiting_bytes_max: int = 32 * MIB
    # How long a question may take before it is given up.
    query_seconds_max: float = 10.0
