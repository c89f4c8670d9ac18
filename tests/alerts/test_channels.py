"""Channels: what is sent, that it is what the other side takes, and what its answers mean."""

import email
import hashlib
import hmac
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import Message as Mail_
from typing import ClassVar

import pytest

from alerts.escalator.channels import Channel
from alerts.escalator.channels.http import Sent
from alerts.escalator.channels.mail import Mail
from alerts.escalator.channels.others import Apprise
from alerts.escalator.channels.pagerduty import PagerDuty
from alerts.escalator.channels.patience import Patience
from alerts.escalator.channels.slack import Slack
from alerts.escalator.channels.webhook import Webhook
from alerts.escalator.words import Message
from tests.alerts import pagerduty as stand_in
from tests.alerts.running import receiver, wait_until

MESSAGE = Message(
    "CanaryLost-1-1/trigger/1.1/ann/x", "CanaryLost-1-1", "trigger", "CanaryLost: <probes> do not reach redis",
    {"What users feel": "Hot state is old & stale", "Since": "2026-11-26 04:00:00 UTC", "Probable cause": "RedisErrors"},
    (("Runbook", "http://console/runbooks/CanaryLost"), ("All pages", "http://console/alerts")),
    "http://escalator/l/ack", "http://escalator/l/resolve", "critical", "CanaryLost", "redis", "ann", 1_795_664_000.5,
    {"alertname": "CanaryLost", "exit": "redis"},
)  # fmt: skip


@pytest.mark.parametrize("kind", ["trigger", "acknowledge", "resolve", "test"])
@pytest.mark.parametrize("test_as", ["change", "info"])
def test_pagerduty_takes_what_is_sent(kind: str, test_as: str) -> None:
    with stand_in.pagerduty() as pager:
        channel = PagerDuty("pagerduty", stand_in.KEY, pager.url, test_as)  # type: ignore[arg-type]
        assert "ok" == channel.send(replace(MESSAGE, kind=kind)).result  # type: ignore[arg-type]
        assert [] == pager.invalid()
        wanted = {"test": {"change": ["change"], "info": ["trigger", "resolve"]}[test_as]}.get(kind, [kind])
        assert wanted == [each.action for each in pager.received()]


def test_the_longest_text_still_fits_pagerduty() -> None:
    long = replace(MESSAGE, title="x" * 5000, key="k" * 400, facts={f"fact {n}": "y" * 50_000 for n in range(10)})
    with stand_in.pagerduty() as pager:
        assert "ok" == PagerDuty("pagerduty", stand_in.KEY, pager.url).send(long).result
        assert [] == pager.invalid()


@pytest.mark.parametrize(("behaviour", "result"), [("429", "retry"), ("500", "retry"), ("lose_answer", "retry"), ("ok", "ok")])
def test_what_pagerduty_answers_is_understood(behaviour: stand_in.Behaviour, result: str) -> None:
    with stand_in.pagerduty() as pager:
        pager.behave(behaviour)
        assert result == PagerDuty("pagerduty", stand_in.KEY, pager.url).send(MESSAGE).result


def test_a_wrong_key_is_refused_for_good_with_pagerdutys_words_and_no_connection_is_tried_again() -> None:
    with stand_in.pagerduty() as pager:
        sent = PagerDuty("pagerduty", "short", pager.url).send(MESSAGE)
        assert ("refused", True) == (sent.result, "Length of 'routing_key' is incorrect" in sent.detail)
        pager.go_away()
        sent = PagerDuty("pagerduty", stand_in.KEY, pager.url).send(MESSAGE)
        assert ("retry", "no answer: NewConnectionError") == (sent.result, sent.detail)


def test_slack_gets_blocks_with_escaped_texts_and_links() -> None:
    with receiver() as (url, got):
        assert "ok" == Slack("slack", url).send(MESSAGE).result
    body = json.loads(got[0].body)
    texts = json.dumps(body)
    assert "*CanaryLost: &lt;probes&gt; do not reach redis*" in body["text"]
    assert "*What users feel*\\nHot state is old &amp; stale" in texts
    assert "<http://escalator/l/ack|Acknowledge>" in texts
    assert MESSAGE.id == got[0].headers["idempotency-key"]


def test_a_webhook_is_signed_and_has_the_key_of_its_message() -> None:
    with receiver() as (url, got):
        assert "ok" == Webhook("webhook", url, "secret", lambda: 1_795_664_001.2).send(MESSAGE).result
    digest = hmac.new(b"secret", b"1795664001." + got[0].body, hashlib.sha256).hexdigest()
    assert f"t=1795664001,v1={digest}" == got[0].headers["x-spillway-signature"]
    assert MESSAGE.id == got[0].headers["idempotency-key"] == json.loads(got[0].body)["id"]


@pytest.mark.parametrize(("status", "result"), [(302, "refused"), (404, "refused"), (503, "retry")])
def test_what_a_receiver_answers_is_understood(status: int, result: str) -> None:
    with receiver(status) as (url, _):
        assert result == Webhook("webhook", url).send(MESSAGE).result


@pytest.mark.slow
def test_apprise_reaches_what_it_knows_and_refuses_what_it_does_not() -> None:
    with receiver() as (url, got):
        assert "ok" == Apprise("apprise", url.replace("http://", "json://")).send(MESSAGE).result
    assert MESSAGE.title == json.loads(got[0].body)["title"]
    assert "refused" == Apprise("apprise", "nothing://x").send(MESSAGE).result


def test_a_mail_holds_facts_and_links_and_the_same_message_has_the_same_id() -> None:
    with smtp() as (port, got):
        channel = Mail("email", "ann@example.com, bob@example.com", "spillway@example.com", f"smtp://127.0.0.1:{port}")
        assert ["ok", "ok"] == [channel.send(replace(MESSAGE, title="a\nBcc: x@y.z")).result for _ in range(2)]
    first, again = got
    assert first["Message-ID"] == again["Message-ID"]
    assert (None, "a Bcc: x@y.z", "ann@example.com, bob@example.com") == (first["Bcc"], first["Subject"], first["To"])
    text = str(first.get_payload())
    assert "What users feel: Hot state is old & stale" in text
    assert "Acknowledge: http://escalator/l/ack" in text


@pytest.mark.parametrize(("code", "result"), [(550, "refused"), (451, "retry")])
def test_what_a_mail_server_answers_is_understood(code: int, result: str) -> None:
    with smtp(code) as (port, _):
        assert result == Mail("email", "ann@example.com", "s@example.com", f"smtp://127.0.0.1:{port}").send(MESSAGE).result


def test_no_channel_shows_its_address_when_it_fails() -> None:
    """Addresses hold secrets, and details stand in the console."""
    channels: list[Channel] = [
        Slack("nobody there", "http://127.0.0.1:9/SECRET"), Webhook("webhook", "http://127.0.0.1:9/SECRET"),
        Slack("no such port", "http://127.0.0.1:99999999/SECRET"), Slack("no host", "http:///SECRET"),
    ]  # fmt: skip
    assert [] == [each.name for each in channels if "SECRET" in each.send(MESSAGE).detail]


def test_an_answer_that_comes_a_byte_at_a_time_holds_up_no_other_message() -> None:
    with dripping() as (url, ends), receiver() as (good, _):
        patience = Patience(seconds_max=2)
        slow, fast = Webhook("webhook", url), Webhook("webhook", good)
        assert Sent("retry", "no whole answer within 2 s") == patience.send(lambda: slow.send(MESSAGE))
        assert "ok" == patience.send(lambda: fast.send(MESSAGE)).result
        ends.set()


def test_messages_that_hang_are_bounded_and_when_they_end_it_goes_on() -> None:
    patience, ends = Patience(seconds_max=0.05, hanging_max=2), threading.Event()

    def hangs() -> Sent:
        ends.wait(30)
        return Sent("ok")

    assert ["no whole answer within 0.05 s"] * 2 == [patience.send(hangs).detail for _ in range(2)]
    assert "2 earlier messages still have no whole answer: not tried" == patience.send(hangs).detail
    ends.set()
    wait_until(lambda: patience.send(hangs).result == "ok", 5, str)


def test_what_a_channel_raises_is_a_reason_to_try_again_and_hangs_nothing() -> None:
    def broken() -> Sent:
        raise KeyError("x")

    patience = Patience(hanging_max=1)
    assert [Sent("retry", "KeyError: 'x'")] * 3 == [patience.send(broken) for _ in range(3)]


def test_without_a_thread_to_send_it_a_message_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    patience = Patience(hanging_max=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        assert [Sent("retry", "can't start new thread")] * 2 == [patience.send(lambda: Sent("ok")) for _ in range(2)]
    assert "ok" == patience.send(lambda: Sent("ok")).result


@contextmanager
def dripping() -> Iterator[tuple[str, threading.Event]]:
    """A server whose headers do not end before the event."""
    ends = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
            while not ends.wait(0.05):
                self.wfile.write(b"x")
            self.wfile.write(b"\r\ncontent-length: 0\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", ends
        finally:
            ends.set()
            server.shutdown()


@contextmanager
def smtp(recipient_code: int = 250) -> Iterator[tuple[int, list[Mail_]]]:
    """A mail server that takes everything, or answers so to each recipient."""
    got: list[Mail_] = []

    class Handler(socketserver.StreamRequestHandler):
        answers: ClassVar[dict[bytes, str]] = {b"EHLO": "250 here", b"MAIL": "250 ok", b"RSET": "250 ok", b"QUIT": "221 bye"}

        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline():
                word = line[:4].upper()
                if word == b"DATA":
                    self.say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    got.append(email.message_from_bytes(b"".join(lines)))
                    self.say("250 taken")
                else:
                    self.say(f"{recipient_code} so" if word == b"RCPT" else self.answers[word])

        def say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()
        server.server_close()
