"""What time it is, on a machine whose clock may be set at any moment.

Due times are kept as Unix seconds of the wall clock, so that they mean something after a restart. How far away they are is
measured by a steady clock that nobody sets (CLOCK_BOOTTIME: it goes on while the machine sleeps). Rules.

- While the process runs, `read` compares the two clocks. If they drifted apart by more than `STEP_SECONDS` since the last
  reading, the wall clock was set, and the reading says by how much: due times must be moved by that. Less is slewing, and is
  followed.
- A restart on the same boot compares the stored readings of both clocks: how long it was down, and by how much the clock was
  set meanwhile, are both known.
- After a reboot only the wall clock is left. If it went back, the time that it was down counts as 0; forwards, setting it can't
  be told from being down, so pages may come early by that much, never late.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STEP_SECONDS = 0.5
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Reading:
    wall: float
    steady: float
    # Steady readings compare within one boot only.
    boot: str


@dataclass(frozen=True, slots=True)
class Began:
    down_seconds: float
    stepped_seconds: float


class Clock:
    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] | None = None, boot: str | None = None
    ) -> None:
        self._wall, self._steady = wall, steady or steady_seconds
        self.boot = boot_id() if boot is None else boot
        self._last = Reading(wall(), self._steady(), self.boot)

    def steady(self) -> float:
        return self._steady()

    def read(self) -> tuple[Reading, float]:
        """Now, and by how many seconds the wall clock was set since the last reading."""
        before, now = self._last, Reading(self._wall(), self._steady(), self.boot)
        self._last = now
        stepped = (now.wall - before.wall) - (now.steady - before.steady)
        return now, stepped if abs(stepped) > STEP_SECONDS else 0.0


def since(stored: Reading, now: Reading) -> Began:
    """What happened between the last stored reading of the process that ended and the first of this one."""
    went = now.wall - stored.wall
    if stored.boot and stored.boot == now.boot and now.steady >= stored.steady:
        down = now.steady - stored.steady
        return Began(down, went - down if abs(went - down) > STEP_SECONDS else 0.0)
    return Began(max(0.0, went), min(0.0, went))


def steady_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
