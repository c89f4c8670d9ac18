"""The canary: events that are sent to be looked for. Two SLIs per exit and door, what convicts, and whether it sees at all."""

from dashboards.page import Ask, Page, Panel, Query, Row
from telemetry import metrics as m

UID = "spillway-canary"
TRACES = '{ span.spillway.tenant = "canary" }'
WELL = "~delivered|reordered"
ask = Ask()


def page() -> Page:
    return Page(
        uid=UID,
        title="Canary",
        description="Events sent from outside through every door onto every shard, and looked for at every exit, field by field.",
        rows=(_slis(), _convicts(), _itself()),
    )


def _slis() -> Row:
    fresh, verdicts = m.CANARY_FRESHNESS_SECONDS.name, m.CANARY_VERDICTS.name
    well, all_of_them = ask.rate(verdicts, "exit, door", verdict=WELL), ask.rate(verdicts, "exit, door")
    return Row(
        "What a producer would see",
        (
            Panel(
                "Freshness by exit and door, 99th percentile",
                "s",
                "From sending a probe to seeing it at the exit, as an outsider sees it; looks are two seconds apart.",
                "One exit: that exit. All of one door: that door or what is behind it. Click a dot for the probe's trace.",
                (Query(ask.quantile(0.99, fresh, "exit, door"), "{{exit}} {{door}}", exemplars=True),),
                limit=20.0,
                traces=TRACES,
            ),
            Panel(
                "Completeness by exit and door",
                "percentunit",
                "Of the probes that are settled, those that are there once, in time, as they were sent.",
                "Below 1: `spillway canary status` names the event, the exit, and the hop to blame.",
                (Query(f"({well}) / (({all_of_them}) > 0) or ({all_of_them}) * 0 + 1", "{{exit}} {{door}}"),),
                limit=1.0,
                falling=True,
                traces=TRACES,
                decimals=3,
            ),
        ),
    )


def _convicts() -> Row:
    return Row(
        "What convicts",
        (
            Panel(
                "Overdue now",
                "short",
                "Probes that should be at the exit by now and are not. Total loss shows here within half a minute.",
                "See which hop is blamed, beside; the strip in `spillway canary status` shows since when.",
                (Query(ask.now("max", m.CANARY_OVERDUE_EVENTS.name, "exit, door"), "{{exit}} {{door}}"),),
                width=6,
                limit=1.0,
                traces=TRACES,
            ),
            Panel(
                "Hop to blame",
                "short",
                "How many ways of door, shard and exit fail by a pattern that names this hop. Two alike: not to be told apart.",
                "Open the page of that hop; `spillway status` says whether its process is up.",
                (Query(ask.now("max", m.CANARY_BLAMED_EVENTS.name, "hop"), "{{hop}}"),),
                width=6,
                limit=1.0,
                traces=TRACES,
            ),
            Panel(
                "Verdicts",
                "cps",
                "What became of probes: delivered, late, lost, duplicated, reordered, corrupted, phantom, unknown.",
                "Anything but delivered and reordered: `spillway canary status` lists the events by name.",
                (Query(ask.rate(m.CANARY_VERDICTS.name, "verdict"), "{{verdict}}"),),
                width=6,
                traces=TRACES,
            ),
            Panel(
                "Negative checks",
                "cps",
                "What must not happen, tried: a broken event, personal data, refused keys, an old schema.",
                "Convicted: the console's canary page says what was seen where. Unknown: a place can't be read.",
                (Query(ask.rate(m.CANARY_CHECKS.name, "check, verdict"), "{{check}} {{verdict}}"),),
                width=6,
                traces=TRACES,
            ),
        ),
    )


def _itself() -> Row:
    looked = m.CANARY_LOOKED.name
    return Row(
        "Can the canary see?",
        (
            Panel(
                "Probes by the door's answer",
                "cps",
                "Accepted; rejected or unanswered: the door's fault; held back: too many are under way, so nothing is sent.",
                "Unanswered: that door. Held back: an exit has not been seen for minutes, so nothing settles.",
                (Query(ask.rate(m.CANARY_SENT.name, "door, outcome"), "{{door}} {{outcome}}"),),
                width=6,
                traces=TRACES,
            ),
            Panel(
                "Since the last look",
                "s",
                "How long ago each exit was last read. While it can't be read, every verdict about it is unknown.",
                "Rising: the exit is down, or the canary has no way to it; its log says which.",
                (Query(f"time() - max by (exit) ({looked})", "{{exit}}"),),
                width=6,
                limit=30.0,
                traces=TRACES,
            ),
            Panel(
                "Looks",
                "cps",
                "Looks that worked and looks that failed, by exit.",
                "Failed: as beside.",
                (Query(ask.rate(m.CANARY_LOOKS.name, "exit, outcome"), "{{exit}} {{outcome}}"),),
                width=4,
                traces=TRACES,
            ),
            Panel(
                "Duration of a look",
                "s",
                "What a look costs, the 99th percentile. It is asked for a few rows, and for files that are new.",
                "Rising with the lake: tend it (`spillway lake compact`).",
                (Query(ask.quantile(0.99, m.CANARY_LOOK_SECONDS.name, "exit"), "{{exit}}"),),
                width=4,
                traces=TRACES,
            ),
            Panel(
                "Under way",
                "short",
                "Probes that are not settled at every exit; bounded.",
                "Rising: some exit is slow, or can't be read.",
                (Query(ask.now("max", m.CANARY_PENDING_EVENTS.name), "probes"),),
                width=4,
                traces=TRACES,
            ),
        ),
    )
