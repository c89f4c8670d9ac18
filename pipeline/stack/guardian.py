"""`python -m pipeline.stack.guardian --state DIR`: the parent of the supervisor, and the reason why its SIGKILL leaves no strays.

The supervisor's children die with it, but their children do not: Spark's JVM, say, is only cut loose. The guardian has adopted
all of them at that moment; it ends them and itself. If the guardian is the one that is killed, the supervisor is told by the
kernel and drains. If both are killed in one instant, the next `up` or `down` sweeps by the marks that `processes` describes.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from pipeline.stack.folder import Folder, read_object, try_lock, write_whole
from pipeline.stack.process import Plan
from pipeline.stack.processes import Identity, adopt_orphans, descendants, die_with_parent, marked, sweep
from pipeline.stack.supervisor import Supervisor

EXIT_ALREADY_UP, EXIT_SUPERVISOR_DIED = 3, 4
GUARDIAN_PID_FILE = "guardian"
LOCK_SECONDS_MAX, LOCK_POLL_SECONDS = 0.5, 0.02


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.stack.guardian", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="state folder with a plan.json")
    parser.add_argument("--tied-to", default="", help="end when this process ends (the text of a pid file)")
    arguments = parser.parse_args()
    folder = Folder.at(arguments.state)
    lock = _lock(folder)
    if lock is None:
        print(f"a supervisor of {folder.path} runs already", file=sys.stderr)
        return EXIT_ALREADY_UP
    plan = Plan.read(folder.plan.read_text())
    tied_to = Identity.read(arguments.tied_to) if arguments.tied_to else None
    adopt_orphans()
    guardian = os.getpid()
    supervisor = os.fork()
    if supervisor == 0:
        die_with_parent(signal.SIGTERM)
        if os.getppid() != guardian:
            os._exit(1)
        Supervisor(plan, folder, tied_to=tied_to).run()
        os._exit(0)
    return _guard(folder, supervisor)


def _lock(folder: Folder) -> int | None:
    """Whoever looks whether the lock is held holds it for that instant, so one refusal says nothing."""
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    while (lock := try_lock(folder.lock)) is None and time.monotonic() < deadline:
        time.sleep(LOCK_POLL_SECONDS)
    return lock


def _guard(folder: Folder, supervisor: int) -> int:
    identity = Identity.of(os.getpid())
    assert identity is not None
    write_whole(folder.run / f"{GUARDIAN_PID_FILE}.pid", identity.text(), 0o600)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: _pass_on(supervisor))
    code = _wait(supervisor)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sweep(lambda: {*descendants(os.getpid()), *marked(folder.mark)}, _reap)
    if code != 0:
        status = read_object(folder.status) | {"stack": "died", "supervisor": None, "at_unix_seconds": time.time()}
        for row in status.get("processes", []):
            row.update(state="stopped", pid=None)
        write_whole(folder.status, json.dumps(status, indent=1))
    for file in folder.run.glob("*.pid"):
        file.unlink(missing_ok=True)
    return 0 if code == 0 else EXIT_SUPERVISOR_DIED


def _pass_on(supervisor: int) -> None:
    """It may have ended in the same moment."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGTERM)


def _wait(supervisor: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == supervisor:
            return os.waitstatus_to_exitcode(status)


def _reap() -> None:
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main())
