"""What the stack is put together from: ports, secrets, logs, probes, the plan. Nothing here starts a service."""

import hashlib
import json
import os
import random
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stack import logs
from pipeline.stack.errors import PortTaken, StackError
from pipeline.stack.folder import Folder, read_object, waiting_lock, write_whole
from pipeline.stack.launch import Stack
from pipeline.stack.ministack_host import Message, Receive, Send, changed_service, durable
from pipeline.stack.plan import NAMES, PARTS, StackSettings, wanted_ports
from pipeline.stack.ports import FREE_PORT_MAX, FREE_PORT_MIN, free_ports, is_free, require_free
from pipeline.stack.prepare import choose_ports, prepare, supervisor_env
from pipeline.stack.process import Ready
from pipeline.stack.ready import is_ready
from pipeline.stack.secret import make_secrets


def folder_at(path: Path) -> Folder:
    folder = Folder.at(path)
    folder.make()
    return folder


def test_a_taken_port_is_told_with_who_holds_it_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} for grpc is held by pid {os.getpid()} \(.*pytest.*--free-ports"):
            require_free({"grpc": port})


def test_a_port_that_only_former_connections_use_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    assert is_free(port)


@given(count=st.integers(0, 40), seed=st.integers())
def test_free_ports_are_different_and_below_the_range_of_outgoing_connections(count: int, seed: int) -> None:
    ports = free_ports(count, rng=random.Random(seed))
    assert (count, count) == (len(ports), len(set(ports)))
    assert all(FREE_PORT_MIN <= port <= FREE_PORT_MAX for port in ports)


def test_a_folder_keeps_its_free_ports_as_long_as_they_are_free(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    first = choose_ports(PARTS, StackSettings(), folder, any_free=True)
    write_whole(folder.stack, json.dumps({"ports": first}))
    with socket.create_server(("127.0.0.1", first["http"])):
        second = choose_ports(PARTS, StackSettings(), folder, any_free=True)
    assert {"http"} == {name for name in first if first[name] != second[name]}


def test_every_process_of_ours_has_a_health_port_of_its_own() -> None:
    wanted = wanted_ports(PARTS, StackSettings(grpc_workers=2))
    health = sorted(name for name in wanted if name.startswith("health:"))
    first = ["auditor", "canary", "console", "escalator", "etl", "grpc-1", "grpc-2"]
    names = [*first, "http", "ledger", "redactor", "store", "transcoder", "watch"]
    assert [f"health:{name}" for name in names] == health
    assert len(wanted) == len(set(wanted.values()))


def test_a_part_keeps_its_fixed_ports_when_others_are_left_out() -> None:
    only = wanted_ports(tuple(part for part in PARTS if part.name == "etl"), StackSettings())
    assert only == {name: port for name, port in wanted_ports(PARTS, StackSettings()).items() if name == "health:etl"}


def test_an_unknown_part_is_refused_with_the_ones_there_are(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=f"no part 'kafka'; there are: {', '.join(NAMES)}"):
        prepare(tmp_path, free_ports=True, parts=("kafka",))


def test_workers_of_a_door_share_its_port_and_know_their_names(tmp_path: Path) -> None:
    prepare(tmp_path, free_ports=True, parts=("grpc", "http"), settings=StackSettings(grpc_workers=2), env={"EXTRA": "1"})
    plan = read_object(Folder.at(tmp_path).plan)["processes"]
    assert ["grpc-1", "grpc-2", "http"] == [process["name"] for process in plan]
    assert ["grpc-1", "grpc-2", "http"] == [process["env"]["SPILLWAY_WORKER"] for process in plan]
    assert 1 == len({process["env"]["SPILLWAY_GRPC_PORT"] for process in plan})
    assert 3 == len({process["env"]["SPILLWAY_HEALTH_PORT"] for process in plan})
    # What they would need is not in this stack, so nobody waits for it.
    assert [[], [], []] == [process["needs"] for process in plan]
    assert {"1"} == {process["env"]["EXTRA"] for process in plan}


def processes(folder: Path, *parts: str, **settings: int) -> dict[str, dict[str, Any]]:
    prepare(folder, free_ports=True, parts=parts, settings=StackSettings(**settings))
    return {each["name"]: each for each in read_object(Folder.at(folder).plan)["processes"]}


def test_whoever_pages_starts_after_all_that_is_watched_and_ends_before_it(tmp_path: Path) -> None:
    """A start or stop of the whole stack pages nobody."""
    plan = processes(
        tmp_path, "grpc", "http", "rules", "prometheus", "alertmanager", "quiet-start", "escalator", "watch", grpc_workers=2
    )
    watched = {"grpc-1", "grpc-2", "http"}
    assert watched == set(plan["escalator"]["needs"])
    assert {"rules", "escalator", "prometheus"} == set(plan["alertmanager"]["needs"])
    assert ["alertmanager"] == plan["quiet-start"]["needs"]
    assert {"quiet-start", "alertmanager", "escalator", *watched} == set(plan["watch"]["needs"])
    first_watched = min(plan[name]["stop_rank"] for name in {*watched, "prometheus"})
    ranks = [plan[name]["stop_rank"] for name in ("watch", "alertmanager", "escalator")]
    assert [*ranks, first_watched] == sorted({*ranks, first_watched})


def test_prometheus_is_told_of_alertmanager_and_the_rules_if_this_stack_has_them(tmp_path: Path) -> None:
    introduced = tmp_path / "data/rules/introduced/alertmanager.json"
    introduced.parent.mkdir(parents=True)
    introduced.write_text("of a former run")
    plan = processes(tmp_path, "rules", "prometheus", "alertmanager", "quiet-start")
    told = read_object(tmp_path / "data/prometheus/prometheus.yml")
    assert [str(introduced)] == told["alerting"]["alertmanagers"][0]["file_sd_configs"][0]["files"]
    assert (False, str(introduced)) == (introduced.exists(), plan["quiet-start"]["argv"][-1])
    assert str(tmp_path / "data/rules/alerts.json") in told["rule_files"]
    assert str(tmp_path / "data/rules/alerts.json") in plan["rules"]["argv"]
    assert f"--config.file={tmp_path / 'data/rules/alertmanager.json'}" in plan["alertmanager"]["argv"]
    assert "rules" in plan["prometheus"]["needs"]
    alone = tmp_path / "alone"
    processes(alone, "prometheus")
    assert "alerting" not in read_object(alone / "data/prometheus/prometheus.yml")


def test_no_credentials_or_endpoints_of_the_user_reach_a_part(tmp_path: Path) -> None:
    user = {"AWS_PROFILE": "production", "AWS_SESSION_TOKEN": "t", "AWS_ENDPOINT_URL_S3": "https://real", "HOME": "/h"}
    assert ["HOME"] == [name for name in supervisor_env(user) if name.startswith(("AWS_", "HOME"))]
    prepare(tmp_path, free_ports=True, parts=("emulator",))
    (process,) = read_object(Folder.at(tmp_path).plan)["processes"]
    assert ("local", os.devnull) == (process["env"]["AWS_ACCESS_KEY_ID"], process["env"]["AWS_CONFIG_FILE"])


def test_the_env_file_tells_a_shell_what_the_program_is_told(tmp_path: Path) -> None:
    odd = tmp_path / "it's a folder"
    prepare(odd, free_ports=True, parts=("grpc", "emulator"))
    stack = Stack.at(odd)
    said = subprocess.run(
        ["bash", "-c", '. "$0"; env -0', str(stack.folder.env)], capture_output=True, text=True, env={}, check=True
    ).stdout
    seen = dict(line.split("=", 1) for line in said.split("\0") if line)
    assert stack.env() == {name: seen[name] for name in stack.env()}
    assert f"127.0.0.1:{stack.ports['grpc']}" == seen["SPILLWAY_COLLECTOR"]


def test_what_a_user_sources_does_not_mark_the_shell_as_part_of_the_stack(tmp_path: Path) -> None:
    """Else `spillway down` would end the shell."""
    prepare(tmp_path, free_ports=True, parts=("emulator",))
    assert Folder.at(tmp_path).mark not in Folder.at(tmp_path).env.read_text()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_for_their_user_alone(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    first = make_secrets(folder)
    assert first == make_secrets(folder)
    assert (0o600, 0o600) == (mode(folder.secrets), mode(folder.keys))


def test_the_keys_file_holds_hashes_only_and_a_revoked_key_stays_revoked(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    secrets = make_secrets(folder)
    lines = [json.loads(line) for line in folder.keys.read_text().splitlines()]
    assert [
        ("service", "spillway", "service", False),
        ("demo", "demo", "producer", False),
        ("canary", "canary", "producer", False),
        ("canary-revoked", "canary", "producer", True),
    ] == [(line["key_id"], line["tenant"], line["role"], "revoked_at" in line) for line in lines]
    assert hashlib.sha256(secrets.demo_key.encode()).hexdigest() == lines[1]["sha256"]
    assert secrets.demo_key not in folder.keys.read_text()
    revoked = json.dumps(lines[1] | {"revoked_at": "2026-01-01T00:00:00Z"}) + "\n"
    folder.keys.write_text(revoked)
    make_secrets(folder)
    kept = [json.loads(line)["key_id"] for line in folder.keys.read_text().splitlines()]
    assert ["demo", "service", "canary", "canary-revoked"] == kept
    assert folder.keys.read_text().startswith(revoked)


def test_a_log_is_rotated_by_size_and_kept_to_a_number(tmp_path: Path) -> None:
    log = tmp_path / "door.log"
    with open(log, "ab", buffering=0) as writer:
        for number in range(5):
            writer.write(f"round {number}\n".encode())
            assert logs.rotate(log, bytes_max=5)
        writer.write(b"now\n")
    assert {"door.log": "now\n", "door.log.1": "round 4\n", "door.log.2": "round 3\n"} == {
        file.name: file.read_text() for file in tmp_path.iterdir()
    }
    assert not logs.rotate(log, bytes_max=5)


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"{number}\n" for number in range(100_000)))
    assert (["99998", "99999"], []) == (logs.tail(tmp_path / "log", 2), logs.tail(tmp_path / "absent", 2))


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """Answers the first bytes of each connection with the same words."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    link.recv(1000)
                    link.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize(
    ("ready", "answer", "expected"),
    [
        (Ready("postgres"), b"R\x00\x00\x00\x17\x00\x00\x00\x0a", True),
        (Ready("postgres"), b"E\x00\x00\x00\x17the database system is starting up", False),
        (Ready("postgres"), b"", False),
        (Ready("redis"), b"+PONG\r\n", True),
        (Ready("redis"), b"-LOADING Redis is loading the dataset in memory\r\n", False),
        (Ready("redis", password="p"), b"+OK\r\n+PONG\r\n", True),
        (Ready("redis", password="p"), b"+OK\r\n-LOADING\r\n", False),
        (Ready("redis", password="p"), b"-WRONGPASS\r\n-NOAUTH\r\n", False),
        (Ready("http"), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (Ready("http"), b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False),
        (Ready("http"), b"what?", False),
        (Ready("tcp"), b"", True),
    ],
)
def test_a_probe_believes_only_the_answer_of_a_server_that_takes_work(ready: Ready, answer: bytes, expected: bool) -> None:
    with server(answer) as port:
        assert expected == is_ready(Ready(ready.probe, port, password=ready.password))


def test_nobody_listening_is_not_ready() -> None:
    port = free_ports(1)[0]
    probes: tuple[Ready, ...] = (Ready("tcp", port), Ready("http", port), Ready("postgres", port), Ready("redis", port))
    assert [False, False, False, False] == [is_ready(ready) for ready in probes]


@pytest.mark.parametrize(
    ("target", "service"),
    [
        ("TrentService.CreateKey", "kms"),
        ("TrentService.CreateAlias", "kms"),
        ("TrentService.Decrypt", None),
        ("TrentService.GenerateDataKey", None),
        ("DynamoDB_20120810.PutItem", "dynamodb"),
        ("DynamoDB_20120810.TransactWriteItems", "dynamodb"),
        ("DynamoDB_20120810.BatchGetItem", None),
        ("DynamoDB_20120810.Query", None),
        ("Kinesis_20131202.PutRecord", None),
        ("", None),
    ],
)
def test_changes_of_kms_and_dynamodb_are_told_from_reads(target: str, service: str | None) -> None:
    assert service == changed_service(target)


async def test_a_change_is_saved_before_it_is_answered_and_a_refusal_is_not() -> None:
    journal: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": scope["status"]})
        await send({"type": "http.response.body"})

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        journal.append(message["type"])

    wrapped = durable(app, lambda service: journal.append(f"saved {service}"))
    headers = [(b"x-amz-target", b"TrentService.CreateKey")]
    await wrapped({"type": "http", "headers": headers, "status": 200}, receive, send)
    await wrapped({"type": "http", "headers": headers, "status": 400}, receive, send)
    answer = ["http.response.start", "http.response.body"]
    assert ["saved kms", *answer, *answer] == journal


def test_a_cache_is_filled_by_one_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def fill(number: int) -> None:
        with waiting_lock(tmp_path / "lock"):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [1, 1, 1, 1] == most
