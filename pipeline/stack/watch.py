"""Who watches the stack: whom Prometheus scrapes, what it and Alertmanager are told, and where the console finds them.

Prometheus finds its targets by files (`file_sd`): one entry a process of ours, with the labels `process` (the part, as
`telemetry.hops` names it) and `worker` (the process's own name, the same after every restart).

Nobody is paged by a start or a stop of the whole stack. Whoever pages starts when all that is watched is ready, Prometheus finds
Alertmanager only after that has been told to be silent for a while (`alerts.quiet_start`), and they end before any of it does.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.stack.debian import Tool
from pipeline.stack.folder import write_whole
from pipeline.stack.ports import HOST
from telemetry.recording import rules_text

# Four weeks of baseline, and some.
RETENTION_DAYS = 36
RETENTION_SIZE = "2GB"
EXEMPLARS_MAX = 100_000
# In the folder of the task `rules` (`python -m alerts`).
ALERT_RULES, ALERT_ROUTES = "alerts.json", "alertmanager.json"
# By this file Prometheus finds Alertmanager, in a folder of its own.
INTRODUCTION = "introduced/alertmanager.json"
# Prometheus says again so often what fires, so a new Alertmanager knows it so soon. Alertmanager forgets what is not said four
# times: the escalator's dead man's switch has to be late before that, or it would take an end for true that nobody has seen.
RESEND = "40s"
# What was notified and what is silenced is on disk so often, for a SIGKILL; by itself it would be every 15 minutes.
MAINTENANCE = "30s"


@dataclass(frozen=True, slots=True)
class Target:
    """A process with a health port. The labels are its part, as `telemetry.hops` names it, and its own name."""

    process: str
    worker: str
    port: int


def write_targets(file: Path, targets: Iterable[Target]) -> None:
    """In the form of Prometheus' `file_sd`."""
    entries = [{"targets": [f"{HOST}:{one.port}"], "labels": {"process": one.process, "worker": one.worker}} for one in targets]
    write_whole(file, json.dumps(entries, indent=1))


def prometheus_command(
    tool: Tool, data: Path, ports: Mapping[str, int], targets: Path, rules: Path, scrape_seconds: int
) -> tuple[str, ...]:
    """Writes its configuration and recording rules (JSON is YAML); the rules of alerts lie in the folder `rules`, if any."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(data / "recording.json", rules_text(scrape_seconds))
    config: dict[str, object] = {
        "global": {
            "scrape_interval": f"{scrape_seconds}s",
            "scrape_timeout": f"{scrape_seconds}s",
            "evaluation_interval": f"{scrape_seconds}s",
        },
        "rule_files": [str(data / "recording.json"), str(rules / ALERT_RULES)],
        "storage": {"exemplars": {"max_exemplars": EXEMPLARS_MAX}},
        "scrape_configs": [
            {
                "job_name": "spillway",
                "file_sd_configs": [{"files": [f"{targets}/*.json"], "refresh_interval": f"{scrape_seconds}s"}],
            }
        ],
    }
    if "alertmanager" in ports:
        # Of a former run.
        (rules / INTRODUCTION).unlink(missing_ok=True)
        (rules / INTRODUCTION).parent.mkdir(parents=True, exist_ok=True)
        config["alerting"] = {"alertmanagers": [{"file_sd_configs": [{"files": [str(rules / INTRODUCTION)]}]}]}
    write_whole(data / "prometheus.yml", json.dumps(config, indent=1), 0o600)
    return (
        str(tool.programs / "prometheus"),
        f"--config.file={data / 'prometheus.yml'}",
        f"--storage.tsdb.path={data / 'tsdb'}",
        f"--storage.tsdb.retention.time={RETENTION_DAYS}d",
        f"--storage.tsdb.retention.size={RETENTION_SIZE}",
        f"--web.listen-address={HOST}:{ports['prometheus']}",
        "--enable-feature=exemplar-storage",
        f"--rules.alert.resend-delay={RESEND}",
        "--log.level=warn",
    )


def alertmanager_command(tool: Tool, data: Path, port: int, rules: Path) -> tuple[str, ...]:
    """One alone on the loopback: without an address for its cluster it gossips with nobody."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    return (
        "env",
        f"--chdir={tool.root}",
        str(tool.programs / "prometheus-alertmanager"),
        f"--config.file={rules / ALERT_ROUTES}",
        f"--storage.path={data}",
        f"--data.maintenance-interval={MAINTENANCE}",
        f"--web.listen-address={HOST}:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    )


def sources(ports: Mapping[str, int]) -> dict[str, str]:
    """Where the console looks; a part that this stack lacks is not looked for."""
    port_of = {"prometheus": "prometheus", "store": "otlp-http", "canary": "health:canary", "ledger": "health:ledger"}
    port_of |= {"alertmanager": "alertmanager", "escalator": "escalator"}
    return {name: f"http://{HOST}:{ports[port]}" for name, port in port_of.items() if port in ports}
