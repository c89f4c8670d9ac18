"""Who is let in."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline.doors.__main__ import main
from pipeline.doors.keys import KeyStore, add_key, read_keys, revoke_key
from pipeline.errors import InvalidConfiguration
from telemetry.metrics import DOOR_KEYS_USABLE, Metrics


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Door:
    """A key store on a folder, under a clock of the test's."""

    def __init__(self, folder: Path) -> None:
        self.path, self.clock, self.metrics = folder / "keys.jsonl", Clock(), Metrics()
        self.store = KeyStore(self.path, clock=self.clock, log=structlog.get_logger(), metrics=self.metrics, door="grpc")

    def lets_in(self, key: str) -> str | None:
        found = self.store.find(f"Bearer {key}")
        return found.tenant if found else None

    @property
    def usable(self) -> float:
        return self.metrics.value(DOOR_KEYS_USABLE, door="grpc")


def test_a_key_names_its_tenant_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.jsonl", "acme", "service")
    door = Door(tmp_path)
    assert "acme" == door.lets_in(key)
    assert key not in door.path.read_text()
    assert key.split("_", 2)[2] not in door.path.read_text()
    assert 0o600 == door.path.stat().st_mode & 0o777


def test_anything_else_is_not_let_in(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.jsonl", "acme", "producer")
    door = Door(tmp_path)
    for other in ("", key[:-1], key + "x", key.upper(), f"spw_{key.split('_')[1]}_", "spw_", "spw", " "):
        assert door.lets_in(other) is None
    for header in ("", key, f"Basic {key}", "Bearer", "Bearer "):
        assert door.store.find(header) is None
    assert door.store.find(f"bearer  {key} ") is not None


@given(st.text(max_size=40))
def test_no_text_opens_a_door_without_keys(text: str) -> None:
    store = KeyStore(Path("/nonexistent/keys"), clock=Clock(), log=structlog.get_logger(), metrics=Metrics(), door="grpc")
    assert store.find(f"Bearer spw_{text}") is None
    assert store.find(text) is None


def test_a_revocation_holds_within_a_second_and_leaves_the_others_alone(tmp_path: Path) -> None:
    one, two = (add_key(tmp_path / "keys.jsonl", tenant, "producer") for tenant in ("one", "two"))
    door = Door(tmp_path)
    assert revoke_key(door.path, one.split("_")[1], datetime.now(UTC))
    door.clock.now += 1.0
    assert [None, "two"] == [door.lets_in(one), door.lets_in(two)]
    assert not revoke_key(door.path, one.split("_")[1], datetime.now(UTC))


def test_for_keys_that_are_known_the_file_is_looked_at_once_a_second_at_most(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.jsonl", "acme", "producer")
    door = Door(tmp_path)
    assert revoke_key(door.path, key.split("_")[1], datetime.now(UTC))
    door.clock.now += 0.9
    assert "acme" == door.lets_in(key)
    door.clock.now += 0.2
    assert door.lets_in(key) is None


def test_a_new_key_is_good_at_once_and_guessing_reads_the_file_a_hundred_times_a_second_at_most(tmp_path: Path) -> None:
    door = Door(tmp_path)
    key = add_key(door.path, "acme", "producer")
    door.clock.now += 0.005
    assert door.lets_in(key) is None
    door.clock.now += 0.006
    assert "acme" == door.lets_in(key)


@pytest.mark.parametrize("broken", ["{", '{"key_id":"x"}', '{"key_id":"x","sha256":"","tenant":"a","role":"god"}', "\xff", None])
def test_a_broken_or_missing_file_keeps_the_last_good_one_and_says_so(tmp_path: Path, broken: str | None) -> None:
    key = add_key(tmp_path / "keys.jsonl", "acme", "producer")
    door = Door(tmp_path)
    assert 1 == door.usable
    if broken is None:
        door.path.unlink()
    else:
        door.path.write_text(door.path.read_text() + broken, encoding="latin-1")
    door.clock.now += 1.0
    assert "acme" == door.lets_in(key)
    assert 0 == door.usable
    door.path.unlink(missing_ok=True)
    newer = add_key(door.path, "newer", "producer")
    door.clock.now += 1.0
    assert [None, "newer", 1] == [door.lets_in(key), door.lets_in(newer), door.usable]


def test_without_a_file_at_the_start_nobody_is_let_in_until_there_is_one(tmp_path: Path) -> None:
    """TRAPS 12."""
    door = Door(tmp_path)
    assert 0 == door.usable
    key = add_key(door.path, "acme", "producer")
    door.clock.now += 1.0
    assert "acme" == door.lets_in(key)


def test_a_complaint_never_quotes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text('{"key_id": "secret-thing"}')
    with pytest.raises(InvalidConfiguration) as raised:
        read_keys(path)
    assert "secret-thing" not in str(raised.value)


@pytest.mark.parametrize("tenant", ["", "Acme", "a/b", "a" * 65, "-a"])
def test_a_tenant_name_is_fit_for_paths_and_labels(tmp_path: Path, tenant: str) -> None:
    with pytest.raises(InvalidConfiguration):
        add_key(tmp_path / "keys", tenant, "producer")


def test_the_commands_add_list_and_revoke(tmp_path: Path) -> None:
    path = str(tmp_path / "keys.jsonl")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["keys", *arguments, "--keys-file", path])
        assert result.exit_code == 0, result.output
        return result.output.strip()

    key = run("add", "--tenant", "acme")
    key_id = key.split("_")[1]
    assert f"{key_id}  acme  producer  in force" == run("list")
    assert f"revoked {key_id}" == run("revoke", key_id)
    assert run("list").startswith(f"{key_id}  acme  producer  revoked 20")
    assert 1 == CliRunner().invoke(main, ["keys", "revoke", "nope", "--keys-file", path]).exit_code
