"""E-mail by SMTP: a text with the facts and links. The Message-ID is made of the note's id, so a repeated one is seen as such."""

import hashlib
import smtplib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from alerts.escalator.channels.http import DETAIL_CHARS_MAX, Sent
from alerts.escalator.state import Kind
from alerts.escalator.words import Message

ANSWER_SECONDS_MAX = 10.0
_WHAT = {"trigger": "", "acknowledge": "Acknowledged: ", "resolve": "Resolved: ", "test": ""}


@dataclass(frozen=True, slots=True)
class Mail:
    """`server`: smtp://[user:password@]host[:port] (STARTTLS if it offers that), smtps://... (TLS from the start)."""

    name: str
    to: str
    sender: str
    server: str
    tells: ClassVar[frozenset[Kind]] = frozenset(("trigger", "resolve"))

    def send(self, message: Message) -> Sent:
        at = urlsplit(self.server)
        host, secure = at.hostname or "localhost", at.scheme == "smtps"
        try:
            with self._connected(host, at.port or (465 if secure else 25), secure) as server:
                if not secure and server.has_extn("starttls"):
                    server.starttls(context=ssl.create_default_context())
                    server.ehlo()
                if at.username:
                    server.login(unquote(at.username), unquote(at.password or ""))
                server.send_message(mail_of(message, self.sender, self.to))
        except smtplib.SMTPResponseException as exc:
            said = exc.smtp_error.decode(errors="replace") if isinstance(exc.smtp_error, bytes) else str(exc.smtp_error)
            return Sent("refused" if 500 <= exc.smtp_code < 600 else "retry", f"{exc.smtp_code} {said}"[:DETAIL_CHARS_MAX])
        except smtplib.SMTPRecipientsRefused as exc:
            codes = [code for code, _ in exc.recipients.values()]
            return Sent("refused" if min(codes, default=0) >= 500 else "retry", f"no recipient was taken: {codes}")
        except (OSError, smtplib.SMTPException) as exc:
            return Sent("retry", f"no answer: {type(exc).__name__}")
        return Sent("ok", "taken by the mail server")

    def _connected(self, host: str, port: int, secure: bool) -> smtplib.SMTP:
        if secure:
            return smtplib.SMTP_SSL(host, port, timeout=ANSWER_SECONDS_MAX, context=ssl.create_default_context())
        return smtplib.SMTP(host, port, timeout=ANSWER_SECONDS_MAX)


def mail_of(message: Message, sender: str, to: str) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = " ".join(f"{_WHAT[message.kind]}{message.title}".split())
    mail["From"], mail["To"] = sender, to
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<{hashlib.sha256(message.id.encode()).hexdigest()[:32]}@spillway>"
    mail["X-Spillway-Key"] = message.key
    # A thread for each page.
    mail["References"] = f"<{hashlib.sha256(message.key.encode()).hexdigest()[:32]}@spillway>"
    lines = [f"{_WHAT[message.kind]}{message.title}", ""]
    lines += [f"{name}: {text}" for name, text in message.facts.items()]
    links = [*message.links, ("Acknowledge", message.acknowledge), ("Resolve", message.resolve)]
    lines += ["", *(f"{name}: {url}" for name, url in links if url)]
    mail.set_content("\n".join(lines) + "\n")
    return mail
