"""Faults that a test or a drill may put on the model, each with a lease.

Rules
- A fault is gone when its lease is over, whoever died (default 60 s, at most an hour).
- partial      each record of a PutRecords fails by chance with InternalFailure and is not written
- throttle     each record of a PutRecords, or any other call, fails by chance for lack of throughput
- error        a call fails by chance with HTTP 500 before it does anything
- reply_lost   a call takes effect, then the connection breaks without an answer (TRAPS 3)
- latency      a call's answer comes `latency_ms` later
- silence      a subscription stays open and sends nothing, not even its empty events (TRAPS 15)
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from dataclasses import asdict, dataclass

from .errors import BadRequest, InternalFailure, throttled
from .state import Json

KINDS = ("partial", "throttle", "error", "reply_lost", "latency", "silence")
LEASE_SECONDS_DEFAULT = 60.0
LEASE_SECONDS_MAX = 3600.0
LATENCY_MS_MAX = 60_000


@dataclass(frozen=True, slots=True)
class Fault:
    """`operation` and `stream` narrow it down; None means any. `ratio` is the chance per call or record."""

    kind: str
    ratio: float = 1.0
    operation: str | None = None
    stream: str | None = None
    latency_ms: int = 0
    until_s: float = 0.0

    def meets(self, operation: str, stream: str | None) -> bool:
        return self.operation in (None, operation) and self.stream in (None, stream)


class Faults:
    """The faults that are on, by the model's own clock and chance."""

    def __init__(self, clock: Callable[[], float], random: random_module.Random) -> None:
        self._clock = clock
        self._random = random
        self._on: list[Fault] = []

    def add(self, wanted: Json) -> Fault:
        """Raises: AwsError where `wanted` is not a fault."""
        kind, ratio = wanted.get("kind"), wanted.get("ratio", 1.0)
        seconds, latency_ms = wanted.get("seconds", LEASE_SECONDS_DEFAULT), wanted.get("latency_ms", 0)
        strange = set(wanted) - {"kind", "ratio", "operation", "stream", "seconds", "latency_ms"}
        if kind not in KINDS or strange:
            raise BadRequest("ValidationException", f"kind must be one of {KINDS}; unknown members: {sorted(strange)}")
        if not (0 < ratio <= 1 and 0 < seconds <= LEASE_SECONDS_MAX and 0 <= latency_ms <= LATENCY_MS_MAX):
            raise BadRequest("ValidationException", "0 < ratio <= 1, 0 < seconds <= 3600, 0 <= latency_ms <= 60000")
        until_s = self._clock() + seconds
        fault = Fault(kind, ratio, wanted.get("operation"), wanted.get("stream"), latency_ms, until_s)
        self._on.append(fault)
        return fault

    def heal(self) -> None:
        self._on.clear()

    @property
    def any(self) -> bool:
        return bool(self._on)

    def listed(self) -> list[Json]:
        now_s = self._clock()
        self._on = [fault for fault in self._on if fault.until_s > now_s]
        return [asdict(fault) for fault in self._on]

    def _struck(self, kinds: tuple[str, ...], operation: str, stream: str | None) -> Fault | None:
        if not self._on:
            return None
        now_s = self._clock()
        for fault in self._on:
            hit = fault.kind in kinds and fault.until_s > now_s and fault.meets(operation, stream)
            if hit and self._random.random() < fault.ratio:
                return fault
        return None

    def before(self, operation: str, stream: str | None) -> None:
        """Raises: AwsError where a fault stops the call before it does anything."""
        if self._struck(("error",), operation, stream):
            raise InternalFailure()
        if operation != "PutRecords" and self._struck(("throttle",), operation, stream):
            raise throttled("Rate exceeded (injected).")

    def record(self, stream: str | None) -> Json | None:
        """How one record of a PutRecords fails, if it does."""
        fault = self._struck(("partial", "throttle"), "PutRecords", stream)
        if fault is None:
            return None
        code = "InternalFailure" if fault.kind == "partial" else "ProvisionedThroughputExceededException"
        return {"ErrorCode": code, "ErrorMessage": "Injected."}

    def reply_lost(self, operation: str, stream: str | None) -> bool:
        return self._struck(("reply_lost",), operation, stream) is not None

    def latency_ms(self, operation: str, stream: str | None) -> int:
        fault = self._struck(("latency",), operation, stream)
        return fault.latency_ms if fault else 0

    def silent(self, stream: str) -> bool:
        return self._struck(("silence",), "SubscribeToShard", stream) is not None
