"""A clock that jumps instead of sleeping, and events to send."""

from dataclasses import dataclass, field

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent


@dataclass
class SimulatedClock:
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0.0, "a wait that does not advance time"
        self.slept.append(seconds)
        self.now += seconds


def event(id: str, data: bytes = b"x") -> CloudEvent:
    return CloudEvent(id=id, source="/test", spec_version="1.0", type="spillway.events.v1.PageViewed", binary_data=data)
