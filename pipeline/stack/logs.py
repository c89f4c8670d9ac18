"""Log files of the processes: rotated by size, kept to a number, read from the end.

A process holds its file open for appending, so the file is copied and emptied rather than renamed. A line written between the two
steps is lost, which is why nothing but logs is kept this way.
"""

import shutil
from pathlib import Path

LOG_BYTES_MAX = 20_000_000
LOG_FILES_MAX = 3
_TAIL_BYTES = 64_000


def rotate(log: Path, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Keep `<log>`, `<log>.1` ... up to `LOG_FILES_MAX` files; whether it was time to."""
    if not log.exists() or log.stat().st_size <= bytes_max:
        return False
    for number in range(LOG_FILES_MAX - 1, 1, -1):
        older = log.with_name(f"{log.name}.{number - 1}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    with open(log, "r+b") as file:
        file.truncate(0)
    return True


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log; empty if there is none."""
    if not log.exists():
        return []
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-lines:]
