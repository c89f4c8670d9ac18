"""Escalators with one bug each. The judge of histories must convict every one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alerts.escalator.core import Turn
from alerts.escalator.events import Firing, Outcome, Restarted, Verified
from alerts.escalator.policy import Level
from alerts.escalator.state import BLIND, Kind, Note, Page


class ForgetsALevel(Turn):
    """The last level is never told."""

    def tell_level(self, page: Page, level: Level) -> Page:
        count = len(self.setup.policy_of(page).levels)
        return page if page.level == count > 1 else super().tell_level(page, level)


class EscalatesAfterAcknowledgement(Turn):
    def acknowledge(self, key: str, who: str) -> None:
        before = self.pages.get(key)
        super().acknowledge(key, who)
        if before is not None and before.state == "open":
            self.pages[key] = replace(self.pages[key], due_at=before.due_at)


class OffByOneLevel(Turn):
    """Waits as long as the next level may take."""

    def due_after(self, page: Page, level: Level, due_at: float, count: int) -> float | None:
        levels = self.setup.policy_of(page).levels
        return super().due_after(page, levels[page.level % count], due_at, count)


class LosesTheOutboxAtRestart(Turn):
    def restarted(self, event: Restarted) -> None:
        self.outbox.clear()
        super().restarted(event)


class BelievesTheWallClock(Turn):
    def stepped(self, by: float) -> None:
        """It takes what the clock says as time that passed."""


class ResolvesWithoutTelling(Turn):
    def tell_told(self, page: Page, kind: Kind) -> None:
        if kind != "resolve":
            super().tell_told(page, kind)


class ANewKeyForEachTry(Turn):
    def failed(self, note: Note, event: Outcome) -> None:
        super().failed(note, event)
        if (later := self.outbox.pop(note.id, None)) is not None:
            named = replace(later, id=f"{note.id}+")
            self.outbox[named.id] = named


class NeverStopsRepeating(Turn):
    def due_after(self, page: Page, level: Level, due_at: float, count: int) -> float | None:
        return super().due_after(replace(page, last_round=page.round + 1), level, due_at, count)


class WaitsThoughTheChannelRefuses(Turn):
    def hurry(self) -> None:
        """The next level waits for its time."""


class BelievesResolvedWhileBlind(Turn):
    def resolved(self, subject: str) -> None:
        key = self.subjects.get(subject)
        if key is not None:
            self.close(key, "")


class SwallowsWhatJoins(Turn):
    def open_anew(self, page: Page, why: str) -> None:
        """Somebody has the page already."""


class TriesAgainAfterTheEnd(Turn):
    def drop(self, key: str, kinds: Sequence[Kind], why: str) -> None:
        """What waits is sent all the same."""


class SendsTwice(Turn):
    """What was delivered stays in the outbox."""

    def delivered(self, note: Note, detail: str) -> None:
        super().delivered(note, detail)
        self.outbox[note.id] = replace(note, next_at=self.now + 30.0)


class NeverBlind(Turn):
    def watch_deadman(self) -> None:
        """Silence is taken for peace."""


class HoldsTheAbsenceAgainstWatchdog(Turn):
    def restarted(self, event: Restarted) -> None:
        super().restarted(replace(event, down_seconds=0.0))


class WaitsForALostResolve(Turn):
    def verified(self, event: Verified) -> None:
        """It does not look at what Alertmanager has."""


class ClosesWhatIsThere(Turn):
    """Takes the first look at which its alert is not there for the end of a page."""

    def verified(self, event: Verified) -> None:
        super().verified(event)
        for page in list(self.pages.values()):
            if page.known and not any(one in event.active for one in page.known):
                self.close(page.key, "")


class LatenessAddsUp(Turn):
    """The next level is due so long after this one was told."""

    def due_after(self, page: Page, level: Level, due_at: float, count: int) -> float | None:
        found = super().due_after(page, level, due_at, count)
        return found if found is None or found <= self.now else self.now + (level.acknowledge_seconds or 0.0)


class OneKeyForAll(Turn):
    """Every opening of a subject has the same key, so a new incident is drowned in the old one's history."""

    def open(self, event: Firing, avoid: str = "", known: tuple[str, ...] = ()) -> None:
        self.opened = 0 if event.subject != BLIND else self.opened
        super().open(event, avoid, known)


MUTANTS: Mapping[str, type[Turn]] = {
    name: kind for name, kind in list(globals().items()) if isinstance(kind, type) and issubclass(kind, Turn) and kind is not Turn
}
