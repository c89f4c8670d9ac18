"""`spillway ledger`: what it shows, and above all its exit code."""

import time
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from canary.ledger import command as module
from canary.ledger.command import ledger
from canary.ledger.letters import LetterSource
from canary.ledger.verify import Stores
from pipeline.backup.reader import Backup
from pipeline.errors import Unavailable
from tests.ledger_service.world import GRPC_PATH, SETTINGS, World

STREAMS = {"http": "web-events", "grpc": "events"}


class Terminal:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.world = World()
        self.world.run(10)
        patch.setattr(module, "_objects", lambda settings: self.world.objects)
        objects, exits = self.world.objects, (self.world.lake, self.world.rds)
        patch.setattr(module, "_stores", lambda settings: Stores(exits, LetterSource(objects), Backup(objects), STREAMS))
        patch.setattr(time, "time", lambda: self.world.now)

    def __call__(self, *words: str) -> Result:
        result = CliRunner().invoke(ledger, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def settle(self) -> None:
        self.world.run(10 + SETTINGS.deadline_seconds + SETTINGS.patience_seconds + SETTINGS.backup_due_seconds + 110)


@pytest.fixture
def spillway(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch)


def with_losses(terminal: Terminal, *lost: str) -> Any:
    world = terminal.world
    window = world.window()
    world.see("a", "b", "c", window=window)
    world.deliver(*({"a", "b", "c"} - set(lost)), window=window)
    world.back_up("a", "b", "c", window=window)
    return window


def test_all_is_well_is_0_and_shows_each_tier(spillway: Terminal) -> None:
    with_losses(spillway)
    spillway.world.run(60)
    result = spillway()
    assert (0, True) == (result.exit_code, "3 events in 1 judged windows: 1 OK" in result.output)
    (line,) = [line for line in result.output.splitlines() if "acme" in line]
    assert ["acme", "grpc", "3", "", "3", "3", "3", "OK"] == [cell.strip() for cell in line.split("│")][1:]


def test_a_loss_is_1_and_named_with_its_payload_and_what_brings_it_back(spillway: Terminal) -> None:
    window = with_losses(spillway, "b")
    spillway.settle()
    shown, missing = spillway(), spillway("missing", "--json")
    assert (1, 1) == (shown.exit_code, missing.exit_code)
    assert "LOST 2026-11-25 12:00:10 acme grpc at events-clean: b of /flights" in shown.output
    (said,) = orjson.loads(missing.output)
    assert ("b", "events-clean", ["lake", "rds"], "redactor:clean") == (
        said["id"],
        said["hop"],
        said["places"],
        said["last_seen"],
    )
    (found,) = [each for each in spillway.world.objects.bodies if each.startswith("backup/")]
    assert (found, 0, 1, window.start) == (said["backup_key"], said["backup_offset"], said["backup_index"], said["start"])
    table = spillway("missing").output
    assert "spillway replay --stream events --since 2026-11-25T12:00:10 --until 2026-11-25T12:00:20" in table


def test_nothing_missing_is_0(spillway: Terminal) -> None:
    with_losses(spillway)
    spillway.settle()
    assert (0, "No event is known to be lost.\n") == ((result := spillway("missing")).exit_code, result.output)


def test_without_a_ledger_all_is_unknown(spillway: Terminal) -> None:
    """TRAPS 30."""
    spillway.world.objects.bodies.clear()
    result = spillway()
    assert (2, True) == (result.exit_code, "UNKNOWN: nobody keeps the ledger here" in result.output)


def test_a_ledger_that_fell_silent_is_unknown_though_all_was_well(spillway: Terminal) -> None:
    with_losses(spillway)
    spillway.world.run(60)
    spillway.world.now += 40
    result = spillway()
    assert (2, True) == (result.exit_code, "UNKNOWN: the ledger has not spoken for 40 s" in result.output)


def test_what_is_not_known_is_2(spillway: Terminal) -> None:
    with_losses(spillway)
    spillway.world.rds.failure = Unavailable("RDS: away")
    spillway.world.run(60)
    result = spillway()
    assert (2, True) == (result.exit_code, "what rds holds is not known: RDS: away" in result.output)


def test_since_leaves_out_what_was_before(spillway: Terminal) -> None:
    with_losses(spillway, "b")
    spillway.settle()
    assert 0 == spillway("--since", "2026-11-25T12:01:00").exit_code


def test_json_says_the_same(spillway: Terminal) -> None:
    with_losses(spillway, "b")
    spillway.settle()
    result = spillway("--json")
    (window,) = orjson.loads(result.output)["windows"]
    assert (1, "LOST", ["b"]) == (result.exit_code, window["verdict"], [each["id"] for each in window["findings"]])


VERIFY = ("verify", "--from", "2026-11-25T12:00:00", "--to", "2026-11-25T12:01:00")


def test_verify_needs_no_digest(spillway: Terminal) -> None:
    with_losses(spillway)
    spillway.settle()
    for key in [key for key in spillway.world.objects.bodies if key.startswith("ledger/")]:
        spillway.world.objects.delete(key)
    result = spillway(*VERIFY)
    assert (0, "3 events in 1 windows: 1 OK\n") == (result.exit_code, result.output)


def test_verify_convicts_by_name(spillway: Terminal) -> None:
    window = with_losses(spillway, "b")
    spillway.world.deliver("c", "ghost", window=window, to=["lake"])
    spillway.settle()
    result = spillway(*VERIFY)
    assert 1 == result.exit_code
    said = [line.partition(" 2026")[0] + line.partition("grpc at")[2] for line in result.output.splitlines()[:-1]]
    assert [
        "DOUBLED lake: c of /flights: lake holds it 2 times",
        "LOST events-clean: b of /flights: lake and rds did not get it",
        "PHANTOM lake: ghost of /flights: lake holds it and the backup does not: no door wrote it, or the backup lacks it",
    ] == sorted(said)


def test_verify_takes_dead_letters_and_what_was_sent_again_for_what_they_are(spillway: Terminal) -> None:
    world = spillway.world
    first = with_losses(spillway, "b")
    world.bury("b", first)
    world.run(20)
    second = world.window()
    world.see("a", at=GRPC_PATH, window=second)
    world.back_up("a", window=second)
    spillway.settle()
    result = spillway(*VERIFY)
    assert (0, "4 events in 2 windows: 2 OK\n") == (result.exit_code, result.output)


def test_verify_of_a_young_stretch_an_empty_one_or_a_blind_one_is_unknown(spillway: Terminal) -> None:
    with_losses(spillway)
    spillway.world.run(60)
    assert (2, True) == ((young := spillway(*VERIFY)).exit_code, "too young" in young.output)
    spillway.settle()
    assert 2 == spillway("verify", "--from", "2026-11-25T10:00:00", "--to", "2026-11-25T11:00:00").exit_code
    spillway.world.lake.failure = Unavailable("the lake is away")
    blind = spillway(*VERIFY)
    assert (2, True) == (blind.exit_code, "what lake holds is not known" in blind.output)
    assert 2 == spillway("verify", "--from", "2026-11-25T12:00:00", "--to", "2026-11-25T12:00:00").exit_code


def test_verify_of_a_damaged_backup_is_unknown(spillway: Terminal) -> None:
    world = spillway.world
    window = with_losses(spillway)
    body = bytearray(world.objects.bodies[world.back_up("d", window=window)])
    body[-1] ^= 1
    world.objects.put("backup/events/2026/11/25/12/broken", bytes(body), {})
    world.deliver("d", window=window)
    spillway.settle()
    result = spillway(*VERIFY)
    assert (2, True) == (result.exit_code, "1 places of the backup are damaged" in result.output)
