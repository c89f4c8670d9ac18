"""Where the ledger is, for who looks now: the newest windows with what each tier saw, and who reports. One small object.

    ledger/status.json

Rewritten each round; one that is old says that nobody keeps the ledger.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import orjson

from canary.ledger.books import Window
from canary.ledger.collect import Collected
from canary.ledger.verdicts import Judged, Verdicts
from pipeline.backup.objects import Objects
from pipeline.errors import Corrupt
from pipeline.ledger.tally import WINDOW_SECONDS

KEY = "ledger/status.json"
# Windows in it begin at so many different times.
STARTS_MAX = 30
WINDOWS_MAX = 300
FINDINGS_MAX = 200


@dataclass(frozen=True, slots=True)
class Progress:
    """One window: events that each tier saw so far, and its verdict; "" while it is open."""

    tenant: str
    door: str
    start: int
    tiers: dict[str, int]
    verdict: str = ""

    @property
    def window(self) -> Window:
        return Window(self.tenant, self.door, self.start)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A process that reports, and until when it has said what it saw."""

    part: str
    worker: str
    boot: str
    reaches_to: float
    ended: bool


@dataclass(frozen=True, slots=True)
class Status:
    """Times are seconds since 1970."""

    written_at: float
    # End of the newest window that was judged; 0: none was.
    judged_to: int
    windows: list[Progress] = field(default_factory=list)
    speakers: list[Speaker] = field(default_factory=list)

    @staticmethod
    def of(now: float, collected: Collected, verdicts: Verdicts, judged_to: int) -> "Status":
        newest = int(now) // WINDOW_SECONDS * WINDOW_SECONDS
        starts = range(newest, newest - STARTS_MAX * WINDOW_SECONDS, -WINDOW_SECONDS)
        windows = [window for start in starts for window in sorted(collected.windows(start))]
        known = [
            Progress(*window, collected.events(window), row.kind.value if (row := verdicts.rows.get(window)) is not None else "")
            for window in windows[:WINDOWS_MAX]
        ]
        speakers = [Speaker(each.part, each.worker, each.boot, each.reaches_to, each.last) for each in collected.instances]
        newest_of = {each.worker: each for each in sorted(speakers, key=lambda each: each.reaches_to)}
        return Status(now, judged_to, known, sorted(newest_of.values(), key=lambda each: (each.part, each.worker)))


def as_json(status: Status, rows: Iterable[Judged]) -> bytes:
    """What the console shows: the newest windows, how many there are of each verdict, and what is wrong."""
    counts: Counter[str] = Counter()
    findings: list[dict[str, object]] = []
    for row in sorted(rows, key=lambda row: -row.window.start):
        counts[row.kind.value] += 1
        for each in row.findings[: FINDINGS_MAX - len(findings)]:
            said = {"class": each.kind.value, "hop": each.hop, "id": each.name.id, "detail": each.detail}
            findings.append({**said, "tenant": row.window.tenant, "door": row.window.door, "start": row.window.start})
    return orjson.dumps({**asdict(status), "counts": counts, "findings": findings})


def write_status(objects: Objects, status: Status) -> None:
    """Raises: Unavailable."""
    objects.put(KEY, orjson.dumps(asdict(status)), {})


def read_status(objects: Objects) -> Status:
    """Raises: NoSuchObject, Corrupt, Unavailable."""
    try:
        said = orjson.loads(objects.get(KEY))
        windows = [Progress(**each) for each in said["windows"]]
        return Status(said["written_at"], said["judged_to"], windows, [Speaker(**each) for each in said["speakers"]])
    except (ValueError, KeyError, TypeError) as exc:
        raise Corrupt("the ledger's status can't be read") from exc
