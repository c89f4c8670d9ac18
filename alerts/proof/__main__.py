"""`python -m alerts.proof detection | weeks | mutants | absence`: proof that the alerts are right.

Exit code 0: proven; 1: a false page, a mutant that did not page, an alert that was late or silent.
"""

import argparse
import concurrent.futures
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from alerts.proof import absence, detection, mutants, weeks
from alerts.proof.rulebook import Rulebook, rulebook
from alerts.proof.server import ProofError, end_all, programs_of, server
from alerts.rules import ALERTS, rules_text

INTERVAL_SECONDS = 5
_PROGRAMS = "folder of `prometheus`; else where it is on PATH, else what `spillway up` fetched into .cache (SPILLWAY_CACHE_DIR)"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m alerts.proof", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    parts = {
        "weeks": commands.add_parser("weeks", help="healthy weeks: no page may fire"),
        "detection": commands.add_parser("detection", help="how soon outages page"),
        "absence": commands.add_parser("absence", help="no alert is silent because its series are gone"),
        "mutants": commands.add_parser("mutants", help="what is unhealthy must page"),
    }
    for part in parts.values():
        part.add_argument("--programs", type=Path, help=_PROGRAMS)
        part.add_argument("--seed", type=int, default=1)
        part.add_argument("--rules", type=Path, help="a rules file in JSON; else those of alerts.rules")
    parts["weeks"].add_argument("--weeks", type=int, default=100)
    for name in ("weeks", "detection"):
        parts[name].add_argument("--jobs", type=int, default=1, help="at a time, each with a Prometheus of its own")
    parts["weeks"].add_argument("--exact", action="store_true", help="every rule every 5 s, always: slower")
    parts["weeks"].add_argument("--done", type=Path, help="write each week there, and leave out those that are there")
    parts["detection"].add_argument("--trials", type=int, default=200, help="of each outage")
    parts["detection"].add_argument("--only", choices=("total", "partial"))
    hops = sorted({each.hop for each in detection.OUTAGES})
    parts["detection"].add_argument("--hop", action="append", choices=hops, help="only these total outages")
    chosen = parser.parse_args(arguments)
    try:
        chosen.programs = chosen.programs or programs_of(os.environ)
    except ProofError as exc:
        parser.error(str(exc))
    text = chosen.rules.read_text() if chosen.rules else rules_text(INTERVAL_SECONDS)
    book = rulebook(text, INTERVAL_SECONDS * 1000)
    with tempfile.TemporaryDirectory(prefix="spillway-proof-") as folder:
        _stop_at_once(Path(folder))
        return {"weeks": _weeks, "mutants": _mutants, "detection": _detection, "absence": _absence}[chosen.command](
            chosen, book, Path(folder)
        )


def _stop_at_once(folder: Path) -> None:
    """Ctrl-C and SIGTERM end every Prometheus and leave nothing; threads that wait for an answer are not waited for."""

    def stop(number: int, _: object) -> None:
        end_all()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)


def _weeks(chosen: argparse.Namespace, book: Rulebook, folder: Path) -> int:
    rules = weeks.fingerprint(book)
    done = weeks.known(chosen.done, rules) if chosen.done else {}
    wanted = range(chosen.seed, chosen.seed + chosen.weeks)
    rows = [done[seed] for seed in wanted if seed in done]
    print(f"rules {rules}: {len(book.pages())} pages; {len(rows)} of {len(wanted)} weeks are known", flush=True)
    with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
        running = [
            pool.submit(weeks.one, chosen.programs, folder / str(seed), book, seed, exact=chosen.exact)
            for seed in wanted
            if seed not in done
        ]
        for each in concurrent.futures.as_completed(running):
            week = each.result()
            rows.append(weeks.row(week))
            if chosen.done:
                with chosen.done.open("a") as file:
                    file.write(week.line() + "\n")
            print(weeks.told(week), flush=True)
    pages = sum(len(row["pages"]) for row in rows)
    cpu, exact = sum(row["cpu_seconds"] for row in rows), sum(row["exact_hours"] for row in rows)
    print(f"{len(rows)} weeks, {exact:.0f} of {len(rows) * 168} hours at 5 s: {pages} pages, {cpu:.0f} CPU s")
    return 1 if pages else 0


def _detection(chosen: argparse.Namespace, book: Rulebook, folder: Path) -> int:
    held = True
    if chosen.only != "partial":
        outages = [each for each in detection.OUTAGES if not chosen.hop or each.hop in chosen.hop]
        print(f"{chosen.trials} trials each; seconds to the page, {detection.GROUP_WAIT_SECONDS:g} of group_wait with them:\n")
        print(detection.ROW_TITLE, flush=True)
        with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
            rows = [
                pool.submit(detection.total, chosen.programs, folder / str(at), book, chosen.trials, chosen.seed, outage)
                for at, outage in enumerate(outages)
            ]
            for each in rows:
                held = held and each.result().held
                print(each.result().markdown(), flush=True)
    if chosen.only != "total":
        print(f"\nPartial outages, to firing, objective {detection.OBJECTIVE:.1%}:\n\n{detection.PARTIAL_TITLE}", flush=True)
        for partial in detection.partials(chosen.programs, folder, book, chosen.seed):
            held = held and partial.held
            print(partial.markdown(), flush=True)
    return 0 if held else 1


def _absence(chosen: argparse.Namespace, book: Rulebook, folder: Path) -> int:
    named = {rule.name for rule in book.alerts}
    alerts = [alert for alert in ALERTS if alert.name in named]
    by_alert = {alert.name: absence.sources(book, alert) for alert in alerts}
    found = []
    for loss, first in absence.fired(chosen.programs, folder, book, absence.losses(by_alert), chosen.seed):
        found.append((loss, first))
        loud = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in sorted(first.items(), key=lambda item: item[1]))
        print(f"{loss.words}: {loud}", flush=True)
    complaints = absence.complaints(alerts, by_alert, found)
    for words in complaints:
        print(f"SILENT: {words}", file=sys.stderr)
    print(f"{len(found)} cases, {len(complaints)} silences")
    return 1 if complaints else 0


def _mutants(chosen: argparse.Namespace, book: Rulebook, folder: Path) -> int:
    story, placed = mutants.mutated(chosen.seed)
    with server(chosen.programs, folder) as where:
        found = weeks.run(where, book, story)
    for words in mutants.met(placed, found.pages, story.epoch_ms):
        print(words)
    complaints = mutants.missed(placed, found.pages, story.epoch_ms)
    for words in complaints:
        print(f"NOT PAGED: {words}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
