"""When something is due by itself, and which notes are to be sent now: questions to a state, which change nothing."""

import math
from collections.abc import Iterable

from alerts.escalator.state import Deadman, Note, Page, Setup, State

RETRY_SECONDS_FIRST, RETRY_SECONDS_MAX = 1.0, 60.0
# After blindness rules need so long to fire again, if there is reason.
SIGHT_SECONDS = 300.0
# Prometheus sends an alert again once a minute, seen with the next look at Alertmanager: so much later than being heard.
RENEWAL_SECONDS = 30.0


def sendable(state: State, now: float, busy: Iterable[tuple[str, str]]) -> list[Note]:
    """Notes to send now.

    `busy`: pages and channels with a note under way; another of the same waits for its end, so that PagerDuty never hears
    "resolved" before "trigger".
    """
    taken = set(busy)
    found = []
    for note in sorted(state.outbox.values(), key=_turn):
        if note.next_at <= now and (note.key, note.channel) not in taken:
            taken.add((note.key, note.channel))
            found.append(note)
    return found


def next_at(state: State, setup: Setup, busy: Iterable[tuple[str, str]] = ()) -> float:
    """When something is due by itself, without the notes that wait for the end of one under way (`busy`, as for `sendable`)."""
    taken = set(busy)
    due = [page.due_at for page in state.pages.values() if page.due_at is not None]
    due += [note.next_at for note in state.outbox.values() if (note.key, note.channel) not in taken]
    due += [state.test.next_at]
    if state.test.again_at is not None:
        due.append(state.test.again_at)
    if state.test.state == "waiting" and state.test.sent_at is not None:
        due.append(state.test.sent_at + setup.test_late_seconds)
    if state.deadman.late:
        return min(due)
    due.append(deadman_due_at(state.deadman, setup))
    due += [believed_at(state.deadman, page, setup) for page in state.pages.values() if page.cleared_at is not None]
    return min(due)


def deadman_due_at(deadman: Deadman, setup: Setup) -> float:
    """When it counts as late."""
    if deadman.heard_at is None:
        return deadman.since + setup.deadman_grace_seconds
    signs = [deadman.heard_at] if deadman.mark_at is None else [deadman.heard_at, deadman.mark_at + RENEWAL_SECONDS]
    return min(signs) + setup.deadman_late_seconds


def retry_pause_seconds_max(attempts: int) -> float:
    return min(RETRY_SECONDS_MAX, RETRY_SECONDS_FIRST * 2.0 ** min(attempts - 1, 16))


def believed_at(deadman: Deadman, page: Page, setup: Setup) -> float:
    """When "resolved" that was not acted upon is, if sight lasts. Infinite: a person must acknowledge first."""
    if page.cleared_at is None or page.state == "resolved" or must_be_acknowledged(page, setup):
        return math.inf
    return page.cleared_at if deadman.back_at is None else max(page.cleared_at, deadman.back_at) + SIGHT_SECONDS


def must_be_acknowledged(page: Page, setup: Setup) -> bool:
    return page.state == "open" and not setup.policy_of(page).stop_on_resolve


def _turn(note: Note) -> tuple[int, float, str]:
    """What was never tried comes first: a further level must not wait behind the retries of the ones before."""
    return note.attempts, note.next_at, note.id
