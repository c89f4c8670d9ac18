"""What the auditor has read of one stream's backup, and where it looks for more. Pure.

Rules
- What is unread is told by the store's own clock: an object that was put after `read_until`, less `UPLOAD_MAX`, and is not among
  the seen. So an object that comes late, into an hour long past, is found whenever that hour is listed.
- Listing costs by the key, so most rounds list the last minutes only, some the last two hours, and few a whole day: Firehose
  puts an object under the hour of its oldest record, and after an outage that is up to a day ago (TRAPS 27).
- Nothing is passed over because something newer was read: `read_until` stops at what could not be read.
- It is kept as a small object. After a crash some objects are read again; what is told of them is the same again.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipeline.backup.objects import Stored
from pipeline.backup.reader import OBJECT_SPAN_MAX
from pipeline.errors import Corrupt

# An upload in parts shows the time at which it began; it is taken to be done within this.
UPLOAD_MAX = timedelta(minutes=10)
# Beyond it the oldest are forgotten, and read again if they are still within reach.
SEEN_MAX = 20_000
_EPOCH = datetime.fromtimestamp(0, UTC)
_NAME = re.compile(r"(?P<head>.*-)(?P<time>\d{4}(?:-\d\d){5})-[0-9a-f-]{36}[^/]*\Z")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Every so many seconds, list what lies so far behind the newest key."""

    every_seconds: float
    back: timedelta


# The deepest that is due is taken.
SWEEPS = (
    Sweep(600.0, OBJECT_SPAN_MAX + timedelta(hours=2)),
    Sweep(30.0, timedelta(hours=2)),
    Sweep(0.0, timedelta(minutes=3)),
)


@dataclass(slots=True)
class Cursor:
    """`prefix` is the stream's folder in the backup, as `backup/events/`."""

    prefix: str
    read_until: datetime = _EPOCH
    newest_key: str = ""
    # A digest of key and time of what was read lately, and that time.
    seen: dict[str, float] = field(default_factory=dict)

    def list_after(self, back: timedelta, now: datetime) -> str:
        """The key behind which to list, to find all that lies up to `back` behind the newest key; or, if it is as far as an
        object can lie back, behind the oldest that is not read."""
        head, at = _key_time(self.newest_key, self.prefix)
        start = min(at or self.read_until, now)
        if back >= OBJECT_SPAN_MAX:
            start = min(start, self.read_until)
        start -= back
        folder = f"{self.prefix}{start:%Y/%m/%d/%H}/"
        return f"{folder}{head}{start:%Y-%m-%d-%H-%M-%S}" if head else folder

    def unread(self, listed: Iterable[Stored]) -> list[Stored]:
        """Those that were not read yet, oldest first."""
        from_time = self.read_until - UPLOAD_MAX
        unread = [stored for stored in listed if stored.modified_at > from_time and _digest(stored) not in self.seen]
        return sorted(unread, key=lambda stored: (stored.modified_at, stored.key))

    def read(self, stored: Stored) -> None:
        self.seen[_digest(stored)] = stored.modified_at.timestamp()
        self.newest_key = max(self.newest_key, stored.key)

    def advance(self, left: Iterable[Stored]) -> None:
        """After a round, with what of it could not be read."""
        oldest_left = min((stored.modified_at.timestamp() for stored in left), default=float("inf"))
        until = min(max(self.seen.values(), default=0.0), oldest_left)
        self.read_until = max(self.read_until, datetime.fromtimestamp(until, UTC))
        forget_before = (self.read_until - UPLOAD_MAX).timestamp()
        recent = sorted((at, digest) for digest, at in self.seen.items() if at > forget_before)
        self.seen = {digest: at for at, digest in recent[-SEEN_MAX:]}

    def to_json(self) -> bytes:
        said = {"read_until": self.read_until.isoformat(), "newest_key": self.newest_key, "seen": self.seen}
        return json.dumps(said, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, prefix: str, body: bytes) -> "Cursor":
        """Raises: Corrupt."""
        try:
            said = json.loads(body)
            seen = {str(digest): float(at) for digest, at in said["seen"].items()}
            return cls(prefix, datetime.fromisoformat(said["read_until"]), str(said["newest_key"]), seen)
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise Corrupt(f"the auditor's cursor of {prefix} can't be read: {type(exc).__name__}") from exc


def _digest(stored: Stored) -> str:
    """An object that is put again under its key is another."""
    return hashlib.blake2b(f"{stored.key}\0{stored.modified_at.timestamp()}".encode(), digest_size=8).hexdigest()


def _key_time(key: str, prefix: str) -> tuple[str, datetime | None]:
    """What stands before the time in an object's name, and that time; as far as its key says them."""
    rest = key.removeprefix(prefix)
    found = _NAME.match(rest.rpartition("/")[2])
    try:
        if found is not None:
            return found["head"], datetime.strptime(found["time"], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
        return "", datetime.strptime("/".join(rest.split("/")[:4]), "%Y/%m/%d/%H").replace(tzinfo=UTC)
    except ValueError:
        return "", None
