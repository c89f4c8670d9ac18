"""What the canary may be told: `SPILLWAY_CANARY_...`, or `[canary]` in the configuration file."""

from dataclasses import dataclass
from typing import ClassVar

from canary.blame import WEB_BACKUP
from canary.judge import Deadlines
from canary.probes import RING_SUBJECTS
from pipeline.errors import InvalidConfiguration


@dataclass(frozen=True, slots=True)
class CanarySettings:
    SECTION: ClassVar[str] = "canary"

    # A probe through each door onto each open shard, every so often. The share of the canary in all events follows from it: two
    # shards are 0.8 probes a second by default.
    interval_seconds: float = 5.0
    # The gRPC door as host:port, the HTTP door as an address, and the key of the tenant `canary`.
    grpc_target: str = "127.0.0.1:50051"
    http_url: str = "http://127.0.0.1:8080"
    key: str = ""
    # A key that was revoked: it must be refused. Without one that check is left out, and says so.
    revoked_key: str = ""
    # Where the process answers at /canary: what `spillway canary status` asks.
    url: str = ""
    # Where metric labels are read for personal data; empty: that place is left out. The trace store is that of [store] url.
    prometheus_url: str = ""
    # A door that has not answered a round within this has not acknowledged it.
    door_seconds_max: float = 4.0
    # How often each exit is looked at while something is waited for, and how long a look may take.
    look_seconds: float = 2.0
    look_seconds_max: float = 8.0
    # A probe is late after `due`, lost after `lost`, and given up as unknown if nobody could look until `blind`.
    due_seconds: float = 15.0
    lost_seconds: float = 300.0
    # Firehose gathers for minutes: its buffering interval, and some.
    backup_due_seconds: float = 420.0
    backup_lost_seconds: float = 840.0
    blind_seconds: float = 900.0
    # What is under way is bounded, whatever fails: beyond it no probe is sent, and that is said.
    outstanding_max: int = 1_000
    round_events_max: int = 64
    # How often the negative checks run, and how long one waits for what must come.
    check_seconds: float = 300.0
    check_wait_seconds: float = 60.0
    # What counts as "now" in verdicts; how far the strips go back.
    lately_seconds: float = 300.0
    strip_hours: float = 24.0

    def deadlines(self, exit: str) -> Deadlines:
        if exit in ("backup", WEB_BACKUP):
            return Deadlines(self.backup_due_seconds, self.backup_lost_seconds, max(self.blind_seconds, self.backup_lost_seconds))
        return Deadlines(self.due_seconds, self.lost_seconds, self.blind_seconds)

    def check(self) -> "CanarySettings":
        """Raises: InvalidConfiguration: these can't go together."""
        if not self.key:
            raise InvalidConfiguration(
                "the canary has no key: set SPILLWAY_CANARY_KEY; `spillway keys add --tenant canary` makes one"
            )
        if not 0 < self.door_seconds_max < self.interval_seconds:
            raise InvalidConfiguration("canary: door_seconds_max must be more than 0 and less than interval_seconds")
        for due, lost in ((self.due_seconds, self.lost_seconds), (self.backup_due_seconds, self.backup_lost_seconds)):
            if not 0 < due < lost:
                raise InvalidConfiguration("canary: a probe is due before it is lost, and both take some time")
        rounds = max(self.blind_seconds, self.backup_lost_seconds) / self.interval_seconds
        if rounds >= RING_SUBJECTS:
            raise InvalidConfiguration(
                f"canary: a probe may be waited for over {rounds:.0f} rounds, and a lane has {RING_SUBJECTS} subjects: "
                "make interval_seconds longer or blind_seconds shorter"
            )
        return self
