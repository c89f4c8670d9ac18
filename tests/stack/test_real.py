"""The real services: fetched, started, killed, used."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import redis

from pipeline.config import Settings
from pipeline.stack import stores
from pipeline.stack.debian import Debian
from pipeline.stack.launch import Stack
from pipeline.stack.plan import StackSettings
from pipeline.stack.ports import free_ports
from pipeline.stack.process import Ready
from pipeline.stack.processes import marked
from pipeline.stack.provision import Clients, ProvisionSettings, provision
from pipeline.stack.ready import is_ready
from pipeline.stack.watch import alertmanager_command
from tests.stack.conftest import wait_until

pytestmark = pytest.mark.stack


def client(stack: Stack, service: str) -> Any:
    env = stack.env()
    return boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=env.get(f"AWS_ENDPOINT_URL_{service.upper()}", env["AWS_ENDPOINT_URL"]),
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def test_stores_keep_what_they_acknowledged_through_sigkill_and_down(tmp_path: Path) -> None:
    parts = ("postgres", "redis")
    with Stack.start(tmp_path, parts=parts) as stack:
        url, hot = stack.env()["SPILLWAY_RDS_URL"], redis.Redis.from_url(stack.env()["SPILLWAY_REDIS_URL"])
        with psycopg.connect(url, autocommit=True) as link:
            link.execute("CREATE TABLE seen (id int)")
            link.execute("INSERT INTO seen VALUES (7)")
        stack.kill("postgres", signal.SIGKILL)
        stack.wait_until("postgres", lambda each: each.restarts >= 1 and each.state == "ready", 30)
        hot.set("k", "v")
        stack.kill("redis", signal.SIGTERM)
        stack.wait_until("redis", lambda each: each.restarts >= 1 and each.state == "ready", 30)
    assert [] == marked(stack.folder.mark)
    with Stack.start(tmp_path, parts=parts) as stack:
        assert url == stack.env()["SPILLWAY_RDS_URL"]
        with psycopg.connect(url) as link:
            assert [(7,)] == link.execute("SELECT id FROM seen").fetchall()
        assert b"v" == redis.Redis.from_url(stack.env()["SPILLWAY_REDIS_URL"]).get("k")


def test_keys_leases_and_objects_outlive_the_sigkill_of_their_stand_in(tmp_path: Path) -> None:
    parts = ("ministack", "emulator", "provision")
    with Stack.start(tmp_path, parts=parts, settings=StackSettings(shards=3)) as stack:
        kinesis, s3, dynamodb = client(stack, "kinesis"), client(stack, "s3"), client(stack, "dynamodb")
        streams = ["events", "events-clean", "web-events"]
        assert streams == sorted(kinesis.list_streams()["StreamNames"])
        summaries = [kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"] for name in streams]
        assert [(3, 168, "KMS"), (3, 168, "NONE"), (3, 168, "KMS")] == [
            (each["OpenShardCount"], each["RetentionPeriodHours"], each["EncryptionType"]) for each in summaries
        ]
        assert "Enabled" == s3.get_bucket_versioning(Bucket="spillway")["Status"]
        s3.put_object(Bucket="spillway", Key="k", Body=b"kept")
        kms = client(stack, "kms")
        sealed = kms.encrypt(KeyId="alias/spillway-pseudonym", Plaintext=b"a tenant's key")["CiphertextBlob"]
        lease = {"lease_key": {"S": "events/0"}, "checkpoint": {"S": "49"}}
        dynamodb.put_item(TableName="spillway-leases", Item=lease)
        stack.kill("ministack", signal.SIGKILL)
        stack.wait_until("ministack", lambda each: each.restarts >= 1 and each.state == "ready", 30)
        stack.wait_until("provision", lambda each: each.restarts >= 1 and each.state == "done", 30)
        assert b"kept" == s3.get_object(Bucket="spillway", Key="k")["Body"].read()
        assert b"a tenant's key" == kms.decrypt(CiphertextBlob=sealed)["Plaintext"]
        found = dynamodb.get_item(TableName="spillway-leases", Key={"lease_key": {"S": "events/0"}})["Item"]
        assert lease == found


def test_provisioning_again_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Stack.start(tmp_path, parts=("ministack", "emulator")) as stack:
        for name, value in stack.env().items():
            monkeypatch.setenv(name, value)
        clients, settings = Clients.from_environment("us-east-1"), Settings()
        assert 11 == len(provision(clients, settings, ProvisionSettings()))
        assert [] == provision(clients, settings, ProvisionSettings())
        backups = clients.firehose.list_delivery_streams()["DeliveryStreamNames"]
        assert ["events-backup", "web-events-backup"] == sorted(backups)


def test_ctrl_c_in_the_foreground_ends_everything(tmp_path: Path) -> None:
    command = "from pipeline.stack.command import up; up()"
    words = ["--state", str(tmp_path), "--free-ports", "--parts", "emulator", "--foreground"]
    with subprocess.Popen([sys.executable, "-c", command, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("For clients:"):
                break
        assert 1 == len(marked(Stack.at(tmp_path).folder.mark))
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(60)
    assert ([], False) == (marked(Stack.at(tmp_path).folder.mark), Stack.at(tmp_path).running())


def version(program: Path, tool_env: dict[str, str]) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, env={**os.environ, **tool_env}, check=True)
    return done.stdout


@pytest.mark.slow
def test_redis_is_fetched_where_it_is_not_installed(tmp_path: Path) -> None:
    tool = Debian(tmp_path, use_installed=False).redis()
    assert re.match(r"Redis server v=\d", version(tool.programs / "redis-server", tool.env()))
    # The second time nothing is fetched: an empty PATH has nothing to fetch with.
    assert tool == Debian(tmp_path, use_installed=False).redis()


def test_alertmanager_is_fetched_where_it_is_not_installed_and_serves_from_where_it_was_unpacked(tmp_path: Path) -> None:
    """Debian's looks for its templates below /usr, whose absence ends it."""
    tool = Debian(tmp_path / "cache", use_installed=False).alertmanager()
    config = tmp_path / "alertmanager.json"
    config.write_text('{"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}')
    port = free_ports(1)[0]
    command = [*alertmanager_command(tool, tmp_path / "data", port, tmp_path)]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: is_ready(Ready("http", port, "/-/ready")), "Alertmanager is ready")
            assert None is process.poll()
        finally:
            process.terminate()


@pytest.mark.slow
def test_postgres_is_fetched_where_it_is_not_installed_and_makes_a_database(tmp_path: Path) -> None:
    tool = Debian(tmp_path / "cache", use_installed=False).postgres()
    assert tmp_path in tool.programs.parents
    stores.make_postgres(tool, tmp_path / "data", "secret")
    assert (tmp_path / "data" / "PG_VERSION").exists()
    assert ["cache", "data"] == sorted(each.name for each in tmp_path.iterdir())
