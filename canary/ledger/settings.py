"""Settings of the ledger: `SPILLWAY_LEDGER_...`, or `[ledger]` in the configuration file."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    SECTION: ClassVar[str] = "ledger"

    round_seconds: float = 5.0
    # So long after its end a window is judged.
    deadline_seconds: float = 90.0
    # So much longer what is missing is late; after that it is lost.
    patience_seconds: float = 120.0
    # So long after its end a window's events have to be in the backup: Firehose's buffer (900 s at most), and time to read it.
    backup_due_seconds: float = 180.0
    # A window that is lost or unknown is judged again so often, as long as it is within the horizon.
    again_seconds: float = 60.0
    # How far back windows are kept in mind.
    horizon_minutes: float = 60.0

    @property
    def horizon_seconds(self) -> float:
        return self.horizon_minutes * 60.0
