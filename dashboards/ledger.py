"""The ledger: is every acknowledged event accounted for, what is convicted and at which hop, and does the ledger see at all?"""

from dashboards.page import Ask, Page, Panel, Query, Row
from telemetry import metrics as m

UID = "spillway-ledger"
ask = Ask()
# Ten seconds of accept time, its deadline, and two rounds.
AGE_SECONDS_MAX = 180.0
UNWRITTEN_SECONDS_MAX = 30.0


def page() -> Page:
    return Page(
        uid=UID,
        title="Ledger",
        description="Continuous accounting of every acknowledged event by identity, in windows of ten seconds of accept time.",
        rows=(
            Row("Is every event accounted for?", _verdicts()),
            Row("Does the ledger see?", _sight()),
            Row("Digests", _digests()),
        ),
    )


def _verdicts() -> tuple[Panel, ...]:
    return (
        Panel(
            "Windows of the last hour, by verdict",
            "short",
            "LATE may still come. LOST, DOUBLED, PHANTOM and CORRUPT are convicted. UNKNOWN could not be seen: never fine.",
            "Any but OK: `spillway ledger` says which windows and why, `spillway ledger missing` where the payload is.",
            (Query(ask.now("sum", m.LEDGER_STANDING.name, "verdict"), "{{verdict}}"),),
            hop="backup",
        ),
        Panel(
            "Convicted, by class and hop",
            "cps",
            "Each event that is lost, doubled, corrupt or a phantom, once, at the hop to blame.",
            "Above 0: an acknowledged event is not where it must be. The ledger's log names it.",
            (Query(ask.rate(m.LEDGER_FINDINGS.name, "verdict, hop"), "{{verdict}} {{hop}}"),),
            hop="backup",
        ),
        Panel(
            "Events accounted for",
            "eps",
            "Acknowledged events in windows that came to a verdict.",
            "Compare with the doors. 0 under load: nothing is judged, see below.",
            (Query(ask.rate(m.LEDGER_ACCOUNTED.name), "accounted"),),
            hop="backup",
        ),
        Panel(
            "Verdicts",
            "cps",
            "Windows as they come to a verdict. One that is revised counts again: late ones that came become OK.",
            "UNKNOWN again and again: a process or an exit can't be read, see below.",
            (Query(ask.rate(m.LEDGER_WINDOWS.name, "verdict"), "{{verdict}}"),),
            hop="backup",
        ),
    )


def _sight() -> tuple[Panel, ...]:
    return (
        Panel(
            "Age of the newest judged window",
            "s",
            "How long ago the newest window ended that was judged: its deadline and a round, as a rule.",
            "Rising: the ledger is blind, or waits for a process that does not say what it saw.",
            (Query(ask.now("max", m.LEDGER_JUDGED_AGE.name), "age"),),
            width=8,
            limit=AGE_SECONDS_MAX,
            hop="backup",
        ),
        Panel(
            "Can it look at everything?",
            "short",
            "1 if segments, dead letters and exits could be read in the last round.",
            "0: the bucket, the lake or RDS is away. Nothing is called lost meanwhile; it catches up.",
            (Query(ask.now("min", m.LEDGER_SIGHT.name), "sight"),),
            width=8,
            limit=1.0,
            falling=True,
            hop="backup",
        ),
        Panel(
            "Dead letters that can't be read",
            "short",
            "What is in them is not known, and clears no event.",
            "Read them with `spillway dlq list`; they count against the events that they may hold.",
            (Query(ask.now("max", m.LEDGER_UNREADABLE.name), "letters"),),
            width=8,
            hop="backup",
        ),
    )


def _digests() -> tuple[Panel, ...]:
    return (
        Panel(
            "Not yet in the bucket, by worker",
            "s",
            "How far back what a process saw is not in the bucket yet. If it is killed now, so much is not known.",
            "Rising: that process can't write to the bucket.",
            (Query(ask.now("max", m.LEDGER_UNWRITTEN_SECONDS.name, "worker"), "{{worker}}"),),
            width=8,
            limit=UNWRITTEN_SECONDS_MAX,
            hop="backup",
        ),
        Panel(
            "Segments, by outcome",
            "cps",
            "Each process writes one every five seconds.",
            "Failed ones are written later. All failed: the bucket is away.",
            (Query(ask.rate(m.LEDGER_SEGMENTS.name, "outcome"), "{{outcome}}"),),
            width=8,
            hop="backup",
        ),
        Panel(
            "Events in digests, by part",
            "eps",
            "Each tier that saw an event counts it.",
            "A part that falls to 0 under load does not report.",
            (Query(ask.rate(m.LEDGER_EVENTS.name, "process"), "{{process}}"),),
            width=8,
            hop="backup",
        ),
    )
