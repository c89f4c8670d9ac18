"""The redactor with a hole in its policy, or without a key: nothing passes it, and nothing is lost."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from pipeline import frame
from pipeline.event import explicit_hash_key, slice_of, stored_batch
from pipeline.stack.launch import Stack
from tests.e2e.conftest import wait_until
from tests.e2e.places import stream
from tests.e2e.raw_doors import protobuf_event

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

# From sysexits.h: a person must mend the configuration first.
EX_CONFIG = 78
TENANT, SLICES = "acme", 16
STOP_SECONDS_MAX, SECONDS_MAX = 60.0, 90.0
BROKEN = {
    "no action": "kind: PERSONAL_DATA_KIND_EMAIL",
    "unspecified action": "kind: PERSONAL_DATA_KIND_EMAIL, action: REDACTION_ACTION_UNSPECIFIED",
    "an action that does not fit": "kind: PERSONAL_DATA_KIND_EMAIL, action: REDACTION_ACTION_GENERALISE",
}


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """AWS, and no process of ours: the tests start their own redactors."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("streams")
        with Stack.start(folder, free_ports=True, parts=("ministack", "emulator", "provision")) as started:
            for name, value in started.env().items():
                patch.setenv(name, value)
            yield started


@contextmanager
def _redactor(folder: Path, **env: str) -> Iterator["subprocess.Popen[bytes]"]:
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.redactor"], stdout=log, stderr=log, env=os.environ | {"SPILLWAY_WORKER": "r1"} | env
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def _put(number: int) -> str:
    event = protobuf_event(number)
    slice = slice_of(event.attributes["subject"].ce_string, SLICES)
    batch = stored_batch([event], tenant=TENANT, accepted_at_unix_micros=1, door="grpc", worker="t", slice=slice, slices=SLICES)
    data = frame.encode(batch.SerializeToString())
    boto3.client("kinesis").put_record(
        StreamName="events", Data=data, PartitionKey="k", ExplicitHashKey=explicit_hash_key(slice, SLICES)
    )
    return event.id


def _letters() -> list[str]:
    listing = boto3.client("s3").list_objects_v2(Bucket="spillway", Prefix="dead-letters/")
    return [item["Key"] for item in listing.get("Contents", [])]


def _leases() -> list[object]:
    return list(boto3.client("dynamodb").scan(TableName="spillway-leases")["Items"])


@pytest.mark.parametrize("hole", BROKEN)
@pytest.mark.slow
def test_with_a_hole_in_the_policy_the_redactor_does_not_start_and_reads_nothing(
    streams: Stack, tmp_path: Path, hole: str
) -> None:
    protos = tmp_path / "protos" / "acme"
    protos.mkdir(parents=True)
    (protos / "visits.proto").write_text(
        'syntax = "proto3";\npackage acme;\nimport "spillway/v1/policy.proto";\n'
        f"message VisitBooked {{\n  string doctor = 1;\n"
        f"  string mail_of_patient = 2 [(spillway.v1.personal_data) = {{{BROKEN[hole]}}}];\n}}\n"
    )
    _put(1)
    with _redactor(tmp_path, SPILLWAY_PROTO_DIR=str(protos.parent)) as redactor:
        assert EX_CONFIG == redactor.wait(STOP_SECONDS_MAX)
    said = (tmp_path / "log").read_text()
    assert "acme.VisitBooked.mail_of_patient" in said, said
    assert "personal-data policy is not complete" in said, said
    assert (b"", [], []) == (stream("events-clean", TENANT), _letters(), _leases())


def test_without_kms_the_redactor_waits_and_goes_on_when_it_is_back(streams: Stack, tmp_path: Path) -> None:
    """What can't be redacted is neither passed nor dropped nor buried."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    log = tmp_path / "log"
    ids = [_put(number) for number in range(10, 20)]
    with _redactor(tmp_path, AWS_ENDPOINT_URL_KMS=f"http://127.0.0.1:{port}") as redactor:
        wait_until(lambda: log.read_text().count("key of a tenant can't be had") >= 2, "it has tried twice", SECONDS_MAX)
        assert (b"", [], None) == (stream("events-clean", TENANT), _letters(), redactor.poll())
        with _forwarded(port, streams.endpoints["ministack"]):
            wait_until(lambda: _all_in(ids), f"all are clean:\n{log.read_text()[-3000:]}", SECONDS_MAX)
        assert ([], None) == (_letters(), redactor.poll())


def _all_in(ids: list[str]) -> bool:
    clean = stream("events-clean", TENANT)
    return all(id.encode() in clean for id in ids)


@contextmanager
def _forwarded(port: int, endpoint: str) -> Iterator[None]:
    """Bytes to and from KMS, from now on."""
    there = urlsplit(endpoint)
    listener = socket.create_server(("127.0.0.1", port))

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((str(there.hostname), int(there.port or 80)))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for one in (source, sink):
            one.close()
