"""The console's page of alerts over the real escalator: a page is shown, acknowledged here, and stays so."""

import json
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from dashboards.console.app import ConsoleSettings
from tests.console.asked import running
from tests.console.live import process
from tests.console.test_alerts_page import articles, press, token_of, verdict_of
from tests.console.watched import Night, quiet, watched_beside

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture(scope="module")
def night() -> Night:
    night = quiet()
    night.fires("CanaryLost", "page", "symptom", "42 probes did not reach rds.", 30, exit="rds", hop="rds")
    night.fires("HotShard", "ticket", "cause", "A shard is hot.", 30, hop="kinesis")
    return night


@pytest.fixture(scope="module")
def urls(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Of what plays Alertmanager and Prometheus, and of the escalator."""
    folder = tmp_path_factory.mktemp("escalator")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (
        watched_beside(night) as asked,
        process(
            ["alerts.escalator", "--port", str(port), "--data", str(folder / "data"), "--alertmanager", asked],
            f"{url}/api/health",
            folder / "log",
        ),
    ):
        yield asked, url


def sent(escalator: str, night: Night) -> None:
    """As Alertmanager's webhook: each alert its own group."""
    for alert in night.alerts:
        name = alert["labels"]["alertname"]
        body = {"version": "4", "groupLabels": {"alertname": name}, "alerts": [{**alert, "status": "firing"}]}
        post(f"{escalator}/alertmanager", body)


def post(url: str, body: Any) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert 200 == answer.status


def acknowledgers(escalator: str) -> dict[str, str | None]:
    with urllib.request.urlopen(f"{escalator}/api/pages?state=open", timeout=10) as answer:
        return {each["alert"]: each["acknowledged_by"] for each in json.load(answer)["pages"]}


async def test_a_page_is_shown_acknowledged_and_stays_acknowledged(urls: tuple[str, str], night: Night) -> None:
    asked, escalator = urls
    sent(escalator, night)
    settings = ConsoleSettings(asked, "", alertmanager_url=asked, escalator_url=escalator)
    async with running(settings) as asker:
        before = await asker.get("/alerts")
        assert ("bad", "1 page nobody has acknowledged") == verdict_of(before)
        (article,) = articles(before)
        assert "CanaryLost" in article
        assert "1 of 1, policy default" in article
        key = before.text.split('name="key" value="')[1].split('"')[0]
        pressed = await press(asker, "/alerts/acknowledge", token=token_of(before), key=key, who="alice")
        assert 303 == pressed.status
        after = await asker.get("/alerts")
    assert ("near", "1 page acknowledged, none waits for anybody") == verdict_of(after)
    assert "acknowledged by alice" in articles(after)[0]
    assert "Acknowledge</button>" not in after.text
    assert {"CanaryLost": "alice", "HotShard": None} == acknowledgers(escalator)
