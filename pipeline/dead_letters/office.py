"""Dead letters read again: listed, counted, shown, and sent once more.

Redriving a letter pushes its events through the gRPC door, on behalf of their tenant, with their id, accept time and door; events
of JSON are transcoded on the way as the transcoder would. A letter is deleted when all of its events are acknowledged, and not
before; so an event is either in the stream or still here, or for a moment both, which the exits take for one (TRAPS 21, 25).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from pipeline import frame
from pipeline.backup.objects import Objects
from pipeline.dead_letters.letters import PREFIX, Place, decode, place_of
from pipeline.errors import Corrupt, InvalidEvent
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import DeadLetter, StoredBatch
from pipeline.sdk.publisher import Accepted, Answer, OnBehalf, Rejected
from pipeline.transcoder.transcode import Types, transcode_event

Publish = Callable[[Sequence[CloudEvent], OnBehalf], list[Answer]]


@dataclass(frozen=True, slots=True)
class Listed:
    key: str
    place: Place
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of one letter. `refusal` is empty if all its events were acknowledged and the letter is gone."""

    key: str
    events: int
    refusal: str = ""


class Office:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def letters(self, stage: str | None = None, reason: str | None = None) -> Iterator[Listed]:
        """Letters in the order of their keys. A reason without a stage looks through all stages."""
        prefix = PREFIX + (f"{stage}/" + (f"{reason}/" if reason else "") if stage else "")
        for stored in self._objects.list(prefix):
            place = place_of(stored.key)
            if place is not None and (reason is None or place.reason == reason):
                yield Listed(stored.key, place, stored.size_bytes)

    def counts(self) -> dict[tuple[str, str], int]:
        """Letters by stage and reason."""
        return dict(Counter((listed.place.stage, listed.place.reason) for listed in self.letters()))

    def read(self, key: str) -> DeadLetter:
        """Raises: NoSuchObject, Corrupt, Unavailable."""
        return decode(self._objects.get(key))

    def redrive(self, key: str, types: Types, publish: Publish) -> Redriven:
        """Send one letter's events once more. Raises: Retryable, Refused: nothing was deleted."""
        try:
            batch = batch_of(self.read(key))
            events = [transcode_event(types, event) for event in batch.events]
        except (Corrupt, InvalidEvent) as exc:
            return Redriven(key, 0, str(exc))
        answers = publish(events, OnBehalf(batch.tenant, batch.accepted_at_unix_micros, batch.door))
        if all(isinstance(answer, Accepted) and answer.durable for answer in answers) and len(answers) == len(events):
            self._objects.delete(key)
            return Redriven(key, len(events))
        refusal = next((answer.message for answer in answers if isinstance(answer, Rejected)), "not acknowledged as stored")
        return Redriven(key, 0, refusal)


def batch_of(letter: DeadLetter) -> StoredBatch:
    """The events of a letter with their tenant. Raises: Corrupt: they can't be read."""
    if letter.WhichOneof("original") == "event":
        return letter.event
    try:
        return StoredBatch.FromString(frame.decode(letter.record))
    except DecodeError as exc:
        raise Corrupt("the frame is whole but holds no batch") from exc
