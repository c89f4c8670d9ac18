"""A fate in one sentence, and what to do about it. Pure; the words are for the engineer on call.

Commands are meant to be pasted into a shell: what comes from an event is quoted.
"""

import shlex

from pipeline.explain.fate import Became, Fate
from pipeline.explain.path import BACKUP, GRPC_DOOR, SDK, State, patience_seconds
from telemetry.hops import EXITS
from telemetry.journey import Span

_LONG = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))
# Up to here seconds are easier to compare than minutes.
_SECONDS_MAX = 120.0


def seconds_text(seconds: float) -> str:
    """`0.35 ms`, `42 ms`, `3.42 s`, `17.0 min`."""
    size = abs(seconds)
    if size == 0:
        return "0 s"
    if size >= _SECONDS_MAX:
        scale, name = next((scale, name) for scale, name in _LONG if size >= scale)
        return f"{seconds / scale:.1f} {name}"
    if size >= 0.9995:
        return f"{seconds:.2f} s" if size < 9.995 else f"{seconds:.1f} s"
    milliseconds = seconds * 1_000
    return f"{milliseconds:.0f} ms" if abs(milliseconds) >= 9.5 else f"{milliseconds:.2f} ms"


def sentence(fate: Fate) -> str:
    """What became of the event."""
    return " ".join(part for part in (_first(fate), _beside(fate)) if part)


def in_short(fate: Fate) -> str:
    """`delivered`, `waits for lake`, `dead letter at transcoder`."""
    if fate.became is Became.WAITS:
        return f"waits for {fate.at}"
    return f"{fate.became.value} at {fate.at}" if fate.at else fate.became.value


def _first(fate: Fate) -> str:
    at, why = fate.at, fate.why or "no reason is given"
    match fate.became:
        case Became.DELIVERED:
            if fate.sent_again:
                return "Delivered everywhere. It was sent again after that, so its times do not belong together."
            return f"Delivered everywhere in {seconds_text(fate.seconds)}" + _slowest(fate)
        case Became.DEAD_LETTER:
            return f"Died at {at}: dead letter, {why}."
        case Became.REJECTED:
            return f"Rejected at {at}: {why}. " + (
                "The transcoder, which sent it, buries it." if _for_transcoder(fate) else "It was never acknowledged."
            )
        case Became.GIVEN_UP:
            return f"Given up at {at}: {why}. It was never acknowledged."
        case Became.SEND_AGAIN:
            return f"Stopped at {at}: {why}. " + (
                "It lies in web-events, and the transcoder sends it again."
                if _for_transcoder(fate)
                else "It is not acknowledged; its sender was asked to send it again."
            )
        case Became.LOST:
            return f"Lost at {at}: {why}. It was sent fire-and-forget: answered before the write, and the loss is counted."
        case Became.FAILED:
            return f"Failed at {at}: {why}. No later hop has it."
        case Became.UNTOLD:
            return (
                "Not known: this event was not to be traced, and only what was slow has spoken: "
                f"{_and([step.hop for step in fate.steps if step.span is not None and not step.part])}."
            )
        case Became.WAITS:
            return _waits(fate)


def _for_transcoder(fate: Fate) -> bool:
    """It came by HTTP and was acknowledged there; at the gRPC door the transcoder is the sender."""
    return fate.at == GRPC_DOOR and fate.step("transcoder") is not None


def _waits(fate: Fate) -> str:
    step = fate.step(fate.at)
    since = step.since_seconds if step else 0.0
    usual = seconds_text(patience_seconds(fate.at))
    # Exits wait side by side for one thing, the batch that they are in.
    names = _and([hop for hop in fate.hops(State.WAITS) if hop in EXITS] if fate.at in EXITS else [fate.at])
    if step is not None and step.overdue:
        return f"Waits for {names} since {seconds_text(since)}, and the limit is {usual}: overdue."
    return f"Waits for {names} since {seconds_text(since)}; up to {usual} is within limits."


def _slowest(fate: Fate) -> str:
    slowest = fate.slowest
    if slowest is None:
        return "."
    times = f"waited {seconds_text(slowest.waited_seconds)}, took {seconds_text(slowest.took_seconds)}"
    return f"; slowest hop {slowest.hop} ({slowest.share:.0%}: {times})."


def _beside(fate: Fate) -> str:
    """What else there is to say, as sentences."""
    said = []
    if fate.redriven_at:
        said.append(f"It had died at {fate.redriven_at} and was sent again.")
    if fate.became is not Became.DELIVERED and fate.exits:
        said.append(f"Delivered at {_and(fate.exits)}.")
    missing = fate.hops(State.MISSING)
    if missing:
        said.append(f"No span of {_and(missing)}, though the event went on: lost on the way to the store, or not there yet.")
    backup = fate.step(BACKUP)
    if fate.became is Became.DELIVERED and backup is not None and backup.state is State.WAITS:
        usual = seconds_text(patience_seconds(BACKUP))
        said.append(
            f"The backup is overdue: none for {seconds_text(backup.since_seconds)}, and its limit is {usual}."
            if backup.overdue
            else f"The backup has not been seen yet: Firehose gathers for minutes, up to {usual} is within its limits."
        )
    return " ".join(said)


def advice(fate: Fate) -> str:
    """What to do next; "" if there is nothing to do."""
    place = f"`spillway explain {shlex.quote(fate.id)}` asks every place itself"
    match fate.became:
        case Became.DELIVERED:
            return ""
        case Became.DEAD_LETTER:
            return _after_death(fate)
        case Became.REJECTED:
            if _for_transcoder(fate):
                return f"{place}."
            return "Mend it at its producer and send it again: nothing of it was kept."
        case Became.GIVEN_UP:
            return "Send it again; a client with a spool keeps such events over an outage (pipeline/sdk/README.md)."
        case Became.SEND_AGAIN:
            return f"If that goes on, `spillway status` says what is down; {place}."
        case Became.LOST:
            return "Send it again; `guaranteed` delivery waits for the write."
        case Became.UNTOLD:
            return f"{place}."
        case Became.FAILED | Became.WAITS:
            return f"`spillway status` says whether {_process(fate.at)} is up; {place}."


def _after_death(fate: Fate) -> str:
    step = fate.step(fate.at)
    key = step.span.attributes.get("spillway.dead_letter.key", "") if step and step.span else ""
    if key:
        named = shlex.quote(key)
        return f"`spillway dlq show {named}` says more; mend the cause, then `spillway dlq redrive --key {named}`."
    chosen = f"--stage {shlex.quote(stage_of(fate.at))} --reason {shlex.quote(fate.why)}"
    return f"`spillway dlq list {chosen}` finds it; mend the cause, then `spillway dlq redrive {chosen}`."


def stage_of(hop: str) -> str:
    """What dead letters call a hop."""
    return f"etl-{hop}" if hop in EXITS else hop


def _process(hop: str) -> str:
    return "the ETL" if hop in EXITS else "the auditor" if hop == BACKUP else hop


def outcome(span: Span, *, ended: bool) -> str:
    """What a hop made of the event, in a few words."""
    said = span.attributes.get
    words = []
    reason = said("spillway.reason", "") or span.error
    if ended:
        words.append(f"{span.final.replace('_', ' ')}: {reason}" if reason else span.final.replace("_", " "))
    elif said("spillway.door.status") == "retry":
        words.append(f"asked to send again: {reason}")
    elif span.failed:
        words.append(f"{said('spillway.outcome', 'failed').replace('_', ' ')}: {reason}")
    else:
        words.append(_well(span))
    attempts = said("spillway.attempts", "1")
    if attempts not in ("0", "1"):
        words.append(f"{attempts} attempts")
    words += ["slow"] if said("spillway.slow") == "true" else []
    words += ["found in a spool"] if said("spillway.recovered") == "true" else []
    words += ["rebuilt"] if span.rebuilt else []
    return ", ".join(word for word in words if word)


def _well(span: Span) -> str:
    said = span.attributes.get
    stream, shard = said("messaging.destination.name", ""), said("messaging.destination.partition.id", "")
    position = " ".join(part for part in (stream, shard, said("messaging.aws_kinesis.sequence_number", "")) if part)
    if span.hop.endswith("/write"):
        return f"written {position}".strip()
    if span.hop.endswith("-door"):
        status = said("spillway.door.status", "")
        return "queued, fire-and-forget" if status == "queued" else status or "accepted"
    if span.base in EXITS or span.hop == SDK:
        version = said("spillway.lake.version", "")
        return f"version {version}" if version else said("spillway.outcome", "")
    if span.base == BACKUP:
        return said("aws.s3.key", "")
    return "passed" if span.hop and "/" not in span.hop else ""


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else " and ".join([", ".join(names[:-1]), names[-1]]) if names else "no hop"
