"""The supervisor against processes that die, hang, ignore signals and leave children behind."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stack.errors import AlreadyUp, StackFailed
from pipeline.stack.folder import Folder
from pipeline.stack.launch import Stack
from pipeline.stack.ports import free_ports
from pipeline.stack.prepare import prepare
from pipeline.stack.process import Plan, Process, Ready
from pipeline.stack.processes import Identity
from pipeline.stack.supervisor import BACKOFF_SECONDS_MAX, RESTARTS_IN_A_ROW_MAX, after_failure
from tests.stack.conftest import StartFakes, alive, fake, on_sigterm, pid_of_file, wait_until, with_grandchild, written


def appends(journal: Path, word: str) -> str:
    return f"open({str(journal)!r}, 'a').write({word + chr(10)!r})"


def listens(port: int, journal: Path | None = None, word: str = "") -> str:
    note = appends(journal, word) if journal is not None else "pass"
    return f"import socket, time; {note}; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"


def test_a_process_waits_until_those_that_it_needs_are_ready(start_fakes: StartFakes, tmp_path: Path) -> None:
    journal, port = tmp_path / "journal", free_ports(1)[0]
    sees = f"import socket; socket.create_connection(('127.0.0.1', {port})); {appends(journal, 'user saw the store')}"
    stack = start_fakes(
        fake("user", sees, needs=("made",), task=True),
        fake("made", appends(journal, "made"), needs=("store",), task=True),
        fake("store", listens(port, journal, "store"), ready=Ready("tcp", port)),
    )
    assert ["store", "made", "user saw the store"] == journal.read_text().splitlines()
    assert {"user": "done", "made": "done", "store": "ready"} == {each.name: each.state for each in stack.processes()}


def test_what_dies_is_started_again(start_fakes: StartFakes) -> None:
    stack = start_fakes(fake("one"), fake("other"))
    first, other = stack.pid("one"), stack.pid("other")
    stack.kill("one")
    process = stack.wait_until("one", lambda each: each.restarts == 1 and each.up, 10)
    assert ("SIGKILL", other) == (process.last_exit, stack.pid("other"))
    assert first != process.pid


def test_a_process_is_told_how_often_it_ended_badly_and_a_drain_is_no_crash(start_fakes: StartFakes, tmp_path: Path) -> None:
    told = tmp_path / "told"
    word = f"open({str(told)!r}, 'a').write(os.environ['SPILLWAY_TELEMETRY_CRASHES'])"
    stack = start_fakes(fake("door", on_sigterm("sys.exit()", word)))
    pid: int | None = None
    for number, signal_number in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM), 1):
        wait_until(lambda number=number: told.exists() and len(told.read_text()) == number, f"start {number}")
        # It may have told before the supervisor says that it runs.
        pid = stack.wait_until("door", lambda each, ended=pid: each.pid not in (None, ended), 10).pid
        assert pid is not None
        os.kill(pid, signal_number)
    wait_until(lambda: len(told.read_text()) == 4, "start 4")
    assert "0011" == told.read_text()


def test_what_was_not_ready_in_time_is_started_again(start_fakes: StartFakes) -> None:
    never = fake("never", ready=Ready("tcp", free_ports(1)[0]), start_seconds_max=0.2)
    stack = start_fakes(never, ready=False)
    process = stack.wait_until("never", lambda each: each.restarts >= 1, 10)
    assert "not ready after 0 s" == process.last_exit


def test_a_start_that_fails_says_which_process_and_shows_the_end_of_its_log(start_fakes: StartFakes) -> None:
    stack = start_fakes(fake("broken", "raise SystemExit('the disk is upside down')"), ready=False)
    stack.wait_until("broken", lambda each: each.restarts >= 2, 10)
    with pytest.raises(StackFailed, match=r"(?s)broken is not ready.*exit 1.*the disk is upside down"):
        stack.wait_all_ready(0.0)


def test_a_command_that_does_not_exist_is_told(start_fakes: StartFakes) -> None:
    stack = start_fakes(Process("absent", ("/nonexistent/program",)), ready=False)
    process = stack.wait_until("absent", lambda each: bool(each.last_exit), 10)
    assert "can't start: [Errno 2] No such file or directory: '/nonexistent/program'" == process.last_exit


@given(failures=st.integers(1, RESTARTS_IN_A_ROW_MAX), seed=st.integers())
def test_delays_grow_within_their_bound(failures: int, seed: int) -> None:
    state, delay_seconds = after_failure(failures, random.Random(seed))
    longest = min(BACKOFF_SECONDS_MAX, 0.2 * 2 ** (failures - 1))
    assert "backoff" == state
    assert longest / 2 <= delay_seconds <= longest


def test_restarts_in_a_row_end() -> None:
    assert ("failed", 0.0) == after_failure(RESTARTS_IN_A_ROW_MAX + 1, random.Random(1))


def test_grandchildren_of_a_dead_leader_are_gone_before_it_runs_again(start_fakes: StartFakes, tmp_path: Path) -> None:
    stack = start_fakes(fake("leader", with_grandchild(tmp_path / "grandchild")))
    grandchild = written(tmp_path / "grandchild")
    (tmp_path / "grandchild").unlink()
    stack.kill("leader")
    stack.wait_until("leader", lambda each: each.restarts == 1 and each.up, 10)
    assert not alive(grandchild)
    assert alive(written(tmp_path / "grandchild"))


def test_sigkill_of_the_supervisor_leaves_no_strays(start_fakes: StartFakes, tmp_path: Path) -> None:
    stack = start_fakes(fake("plain"), fake("leader", with_grandchild(tmp_path / "grandchild")))
    pids = [stack.pid("plain"), stack.pid("leader"), written(tmp_path / "grandchild")]
    supervisor = stack._supervisor()
    assert supervisor is not None
    supervisor.send(signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)), "strays gone")
    wait_until(lambda: not stack.running(), "lock free")
    assert ["stopped", "stopped"] == [each.state for each in stack.processes()]


def test_sigkill_of_the_guardian_drains(start_fakes: StartFakes, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    said = on_sigterm(f"{appends(journal, 'drained')}, sys.exit()", appends(journal, "up"))
    stack = start_fakes(fake("door", said))
    wait_until(journal.exists, "handler set")
    guardian = Identity.of(pid_of_file(stack, "guardian"))
    assert guardian is not None
    guardian.send(signal.SIGKILL)
    wait_until(lambda: not stack.running(), "supervisor ended")
    assert ["up", "drained"] == journal.read_text().splitlines()


def kill_both(stack: Stack) -> None:
    """Guardian and supervisor in one instant: neither sees the other die."""
    both = [stack._supervisor(), Identity.of(pid_of_file(stack, "guardian"))]
    for each in both:
        assert each is not None
        each.send(signal.SIGSTOP)
    for each in both:
        assert each is not None
        each.send(signal.SIGKILL)
    wait_until(lambda: not stack.running(), "both dead")


def test_down_with_a_dead_supervisor_sweeps_what_is_left(start_fakes: StartFakes, tmp_path: Path) -> None:
    stack = start_fakes(fake("leader", with_grandchild(tmp_path / "grandchild")))
    grandchild = written(tmp_path / "grandchild")
    kill_both(stack)
    assert alive(grandchild)
    assert 1 == stack.stop()
    assert not alive(grandchild)


def test_a_torn_pid_file_hides_nothing(start_fakes: StartFakes, tmp_path: Path) -> None:
    stack = start_fakes(fake("leader", with_grandchild(tmp_path / "grandchild")))
    grandchild = written(tmp_path / "grandchild")
    kill_both(stack)
    for file in stack.folder.run.glob("*.pid"):
        file.write_text('{"pid": 1')
    assert 1 == stack.stop()
    assert (False, []) == (alive(grandchild), list(stack.folder.run.iterdir()))


def test_a_pid_that_was_given_out_again_is_not_signalled(start_fakes: StartFakes) -> None:
    bystander = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    try:
        now = Identity.of(bystander.pid)
        assert now is not None
        former = Identity(now.pid, now.start_ticks - 1, now.boot)
        stack = start_fakes(fake("one"))
        kill_both(stack)
        (stack.folder.run / "one.pid").write_text(former.text())
        assert 0 == stack.stop()
        assert (False, False, True) == (former.alive(), former.send(signal.SIGKILL), now.alive())
    finally:
        bystander.kill()
        bystander.wait()


def test_the_end_follows_the_path_of_an_event(start_fakes: StartFakes, tmp_path: Path) -> None:
    """TRAPS 11: the doors stop first, and have stopped before what they write to is told."""
    journal = tmp_path / "journal"

    def said(name: str) -> str:
        return on_sigterm(f"time.sleep(0.1), {appends(journal, name)}, sys.exit()", f"open({str(tmp_path / name)!r}, 'w')")

    stack = start_fakes(
        fake("store", said("store"), stop_rank=2), fake("worker", said("worker"), stop_rank=1), fake("door", said("door"))
    )
    wait_until(lambda: all((tmp_path / name).exists() for name in ("store", "worker", "door")), "handlers set")
    stack.stop()
    assert ["door", "worker", "store"] == journal.read_text().splitlines()


def test_what_ignores_the_stop_signal_is_killed_after_its_grace_with_its_children(
    start_fakes: StartFakes, tmp_path: Path
) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + with_grandchild(tmp_path / "grandchild")
    stack = start_fakes(fake("deaf", deaf, stop_grace_seconds=0.2))
    leader, grandchild = stack.pid("deaf"), written(tmp_path / "grandchild")
    stack.stop()
    assert (False, False) == (alive(leader), alive(grandchild))


def test_a_second_stop_signal_ends_at_once(start_fakes: StartFakes, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    deaf = on_sigterm(f"open({str(heard)!r}, 'w')", f"open({str(heard) + '.up'!r}, 'w')")
    stack = start_fakes(fake("deaf", deaf, stop_grace_seconds=500.0))
    wait_until((tmp_path / "heard.up").exists, "handler set")
    stack.signal(signal.SIGTERM)
    wait_until(heard.exists, "asked to stop")
    stack.signal(signal.SIGTERM)
    wait_until(lambda: not stack.running(), "ended")


def test_a_held_process_stays_down_until_released(start_fakes: StartFakes) -> None:
    stack = start_fakes(fake("door"), fake("other"))
    stack.hold("door")
    stack.wait_until("door", lambda each: each.state == "held" and each.pid is None, 10)
    assert "ready" == stack.process("other").state
    stack.release("door")
    stack.wait_ready("door", 10)


def test_a_task_is_done_again_when_what_it_worked_on_was_started_again(start_fakes: StartFakes, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    stack = start_fakes(
        fake("store"), fake("make", appends(journal, "made"), task=True, needs=("store",), again_after=("store",))
    )
    stack.kill("store")
    wait_until(lambda: journal.read_text().splitlines() == ["made", "made"], "made again")
    stack.wait_ready("make", 10)


def test_two_stacks_side_by_side_do_not_touch_each_other(start_fakes: StartFakes) -> None:
    one, two = start_fakes(fake("same"), name="one"), start_fakes(fake("same"), name="two")
    survivor = two.pid("same")
    kill_both(one)
    one.stop()
    assert (True, survivor, True) == (two.running(), two.pid("same"), alive(survivor))


def test_up_twice_says_that_it_is_up_already(start_fakes: StartFakes) -> None:
    stack = start_fakes(fake("one"))
    with pytest.raises(AlreadyUp, match=r"is up already"):
        prepare(stack.folder.path, free_ports=True, parts=("emulator",))
    stack.wait_ready("one", 5)


def test_a_second_supervisor_in_a_folder_refuses(start_fakes: StartFakes) -> None:
    stack = start_fakes(fake("one"))
    command = [sys.executable, "-m", "pipeline.stack.guardian", "--state", str(stack.folder.path)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (3, f"a supervisor of {stack.folder.path} runs already\n") == (second.returncode, second.stderr)


def test_a_supervisor_that_can_not_start_says_why(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    folder.make()
    folder.plan.write_text("torn")
    with pytest.raises(StackFailed, match=r"(?s)the supervisor did not start.*JSONDecodeError"):
        Stack(folder).launch()


def test_a_tied_stack_ends_with_the_process_that_started_it(start_fakes: StartFakes, tmp_path: Path) -> None:
    stack = start_fakes(fake("one"))
    stack.stop()
    starter = f"""
import time
from pathlib import Path
from pipeline.stack.folder import Folder
from pipeline.stack.launch import Stack
stack = Stack.at(Path({str(stack.folder.path)!r}))
stack.launch(tied=True)
stack.wait_all_ready(20)
print("up", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "up\n" == process.stdout.readline()
        assert stack.running()
        process.kill()
    wait_until(lambda: not stack.running(), "stack ended")


def test_a_port_that_answers_no_longer_shows_as_unready_without_a_restart(start_fakes: StartFakes, tmp_path: Path) -> None:
    port, go = free_ports(1)[0], tmp_path / "go"
    waits = f"while not os.path.exists({str(go)!r}): time.sleep(0.05)"
    closes = f"import os, socket, time\ns = socket.create_server(('127.0.0.1', {port}))\n{waits}\ns.close(); time.sleep(600)"
    stack = start_fakes(fake("door", closes, ready=Ready("tcp", port)))
    go.touch()
    process = stack.wait_until("door", lambda each: each.state == "unready", 15)
    assert 0 == process.restarts


def test_a_plan_survives_its_file() -> None:
    process = fake("one", env={"A": "b"}, ready=Ready("redis", 1, password="p"), needs=("two",), stop_signal="SIGINT")
    whole = Plan((process, fake("two", task=True, again_after=("one",))))
    assert whole == Plan.read(whole.text())
