"""Whatever else a team uses, through `apprise`: Teams, Telegram, Matrix, ntfy, Pushover and a hundred more, each by one URL."""

from dataclasses import dataclass
from typing import ClassVar

from alerts.escalator.channels.http import Sent
from alerts.escalator.state import Kind
from alerts.escalator.words import Message


@dataclass(frozen=True, slots=True)
class Apprise:
    name: str
    url: str
    tells: ClassVar[frozenset[Kind]] = frozenset(("trigger", "resolve"))

    def send(self, message: Message) -> Sent:
        # Half a second to import, so only where it is used.
        import apprise

        service = apprise.Apprise()
        if not service.add(self.url):
            return Sent("refused", "apprise does not know this kind of URL: see its list of services")
        links = [*message.links, ("Acknowledge", message.acknowledge), ("Resolve", message.resolve)]
        lines = [*(f"{name}: {text}" for name, text in message.facts.items()), *(f"{name}: {url}" for name, url in links if url)]
        title = f"Resolved: {message.title}" if message.kind == "resolve" else message.title
        sent = service.notify(title=title, body="\n".join(lines))
        # It says whether, not why.
        return Sent("ok", "sent") if sent else Sent("retry", "apprise could not send it; its log line says why")
