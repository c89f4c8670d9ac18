"""OTLP is not Python's alone: the OpenTelemetry SDK of Node, as npm has it, sends to the store and is shown."""

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetry.store.process import Served

SENDER = Path(__file__).with_name("node")
INSTALL_SECONDS_MAX = 120
SEND_SECONDS_MAX = 60


@pytest.fixture(scope="module", autouse=True)
def _node() -> None:
    """Skip, with the reason, where the SDK can't run; install it where it can."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed: apt-get install nodejs npm")
    if (SENDER / "node_modules" / "@opentelemetry" / "sdk-trace-node").exists():
        return
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=SENDER, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
    if done.returncode != 0:
        pytest.skip(f"npm ci failed, without a network perhaps: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = Served(tmp_path_factory.mktemp("node") / "store")
    store.start()
    yield store
    store.stop()


def send(store: Served, encoding: str) -> str:
    """The id of the trace that was sent."""
    done = subprocess.run(
        ["node", "send.mjs", f"{store.url}/v1/traces", encoding],
        cwd=SENDER,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=SEND_SECONDS_MAX,
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.strip()


def ask(store: Served, path: str, **asked: str) -> Any:
    with urllib.request.urlopen(f"{store.url}{path}?{urllib.parse.urlencode(asked)}", timeout=30) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("encoding", ["proto", "json"])
def test_what_the_sdk_of_node_sends_is_shown_by_id_and_by_search(store: Served, encoding: str) -> None:
    id = send(store, encoding)
    (batch,) = ask(store, f"/api/traces/{id}")["batches"]
    assert {"key": "service.name", "value": {"stringValue": "node-shop"}} in batch["resource"]["attributes"]
    spans = {one["name"]: one for scope in batch["scopeSpans"] for one in scope["spans"]}
    assert {"checkout", "pay"} == set(spans)
    assert spans["checkout"]["spanId"] == spans["pay"]["parentSpanId"]
    assert {"message": "no money", "code": "STATUS_CODE_ERROR"} == spans["pay"]["status"]
    assert {
        "cart.items": {"intValue": "3"},
        "cart.tags": {"arrayValue": {"values": [{"stringValue": "new"}, {"stringValue": "gift"}]}},
        "cart.total": {"doubleValue": 12.5},
    } == {pair["key"]: pair["value"] for pair in spans["checkout"]["attributes"]}
    for query, name in (
        ('{ span.cart.items = 3 && span.cart.tags = "gift" && span.cart.total > 12 }', "checkout"),
        ('{ resource.service.name = "node-shop" && status = error && span.card.present = false }', "pay"),
    ):
        found = {trace["traceID"]: trace for trace in ask(store, "/api/search", q=query)["traces"]}
        assert ("checkout", [name]) == (found[id]["rootTraceName"], [one["name"] for one in found[id]["spanSets"][0]["spans"]])
