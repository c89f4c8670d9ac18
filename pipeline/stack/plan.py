"""The parts of the stack, in the order of the path of an event. To add one, add an entry to `PARTS`.

A part names the ports it wants and builds its processes from a `Site`: the folder, the chosen ports, the secrets, the tools. A
part of ours is a module; it reads its settings from the environment and answers /readyz on `SPILLWAY_HEALTH_PORT`, so `ours(...)`
is all that its entry needs.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.stack import ministack, ministack_host, stores, watch
from pipeline.stack.debian import Tool
from pipeline.stack.folder import Folder
from pipeline.stack.ports import HOST
from pipeline.stack.process import Plan, Process, Ready
from pipeline.stack.secret import Secrets

ToolName = Literal["ministack", "postgres", "redis", "prometheus", "alertmanager"]

# Metrics and health of parts count up from here, in the order of the path.
HEALTH_PORT_FIRST = 4600
# A JVM on a busy machine.
ETL_START_SECONDS_MAX = 180.0
STORE_GRACE_SECONDS = 30.0
# Who pages ends before what is watched, and who watches those that page before them: a stop of the whole stack pages nobody.
WATCH_STOP_RANK, ALERTMANAGER_STOP_RANK, ESCALATOR_STOP_RANK = -3, -2, -1


@dataclass(frozen=True, slots=True)
class StackSettings:
    """The local stack; `SPILLWAY_STACK_...`, or `[stack]` in the configuration file."""

    SECTION: ClassVar[str] = "stack"

    grpc_port: int = 50051
    http_port: int = 8080
    ministack_port: int = 4566
    emulator_port: int = 4568
    postgres_port: int = 4571
    redis_port: int = 4572
    console_port: int = 8088
    prometheus_port: int = 9090
    alertmanager_port: int = 9093
    escalator_port: int = 9095
    otlp_grpc_port: int = 4317
    otlp_http_port: int = 4318
    # Processes that share one door's port.
    grpc_workers: int = 1
    http_workers: int = 1
    shards: int = 2
    firehose_buffer_mib: int = 1
    firehose_buffer_seconds: int = 5
    # How often Prometheus looks at every process, and evaluates its rules.
    scrape_seconds: int = 5
    # Nobody is paged for so long after a start.
    quiet_start_seconds: int = 120
    # Traces and log lines go after so long, or past so many bytes; an event's trace is judged so long after its first span.
    trace_hours: float = 72.0
    trace_mib_max: int = 2048
    trace_judge_seconds: float = 180.0
    # The canary sends a probe through each door onto each shard so often.
    canary_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Site:
    """What a part may build on."""

    folder: Folder
    ports: Mapping[str, int]
    secrets: Secrets
    tools: Mapping[str, Tool]
    ministack_python: Path
    settings: StackSettings
    region: str
    # The environment that every part gets, and users too.
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    about: str
    build: Callable[[Site], tuple[Process, ...]]
    # Ports that users see, by name, each with its field of StackSettings for the fixed one.
    ports: tuple[tuple[str, str], ...] = ()
    # How many processes with a health port.
    workers: Callable[[StackSettings], int] = lambda _: 0
    tools: tuple[ToolName, ...] = ()

    def names(self, settings: StackSettings) -> tuple[str, ...]:
        """Names of its processes that have a health port."""
        count = self.workers(settings)
        return (self.name,) if count == 1 else tuple(f"{self.name}-{number + 1}" for number in range(count))


def ours(
    part: str,
    *words: str,
    stop_rank: int,
    needs: tuple[str, ...] = ("provision",),
    address: str = "",
    about: str = "",
    start_seconds_max: float = 60.0,
    env: Mapping[str, str] | None = None,
) -> Callable[[Site], tuple[Process, ...]]:
    """A part of ours: `python -m <words>`, one process for each health port that the part was given."""

    def build(site: Site) -> tuple[Process, ...]:
        health = {name.removeprefix("health:"): port for name, port in site.ports.items() if _is_health_of(part, name)}
        return tuple(
            Process(
                name=name,
                argv=(sys.executable, "-m", *words),
                env={"SPILLWAY_WORKER": name, "SPILLWAY_HEALTH_PORT": str(port), **(env or {})},
                ready=Ready("http", port),
                needs=needs,
                stop_rank=stop_rank,
                start_seconds_max=start_seconds_max,
                address=f"{HOST}:{site.ports[address]}" if address else f"{HOST}:{port}",
                about=about,
            )
            for name, port in health.items()
        )

    return build


def _is_health_of(part: str, port_name: str) -> bool:
    kind, _, name = port_name.partition(":")
    return kind == "health" and (name == part or name.rpartition("-")[0] == part)


def _ministack(site: Site) -> tuple[Process, ...]:
    port, data = site.ports["ministack"], site.folder.data("ministack")
    (data / "tmp").mkdir(parents=True, exist_ok=True)
    return (
        Process(
            name="ministack",
            argv=(str(site.ministack_python), "-P", ministack_host.__file__),
            env={**ministack.environment(port, data, site.region), "PYTHONPATH": ""},
            ready=Ready("http", port, "/_ministack/health"),
            stop_rank=8,
            address=f"{HOST}:{port}",
            about="S3, DynamoDB, KMS",
        ),
    )


def _emulator(site: Site) -> tuple[Process, ...]:
    port, data = site.ports["emulator"], site.folder.data("emulator")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    return (
        Process(
            name="emulator",
            argv=(sys.executable, "-m", "pipeline.emulator", "--port", str(port), "--state", str(data)),
            env={"SPILLWAY_WORKER": "emulator"},
            ready=Ready("tcp", port),
            stop_rank=7,
            address=f"{HOST}:{port}",
            about="Kinesis, Firehose",
        ),
    )


def _provision(site: Site) -> tuple[Process, ...]:
    return (
        Process(
            name="provision",
            argv=(sys.executable, "-m", "pipeline.stack.provision"),
            env={
                "SPILLWAY_PROVISION_SHARDS": str(site.settings.shards),
                "SPILLWAY_PROVISION_FIREHOSE_BUFFER_MIB": str(site.settings.firehose_buffer_mib),
                "SPILLWAY_PROVISION_FIREHOSE_BUFFER_SECONDS": str(site.settings.firehose_buffer_seconds),
            },
            needs=("ministack", "emulator"),
            again_after=("ministack", "emulator"),
            task=True,
            about="streams, bucket, tables, keys",
        ),
    )


def _postgres(site: Site) -> tuple[Process, ...]:
    port, data, tool = site.ports["postgres"], site.folder.data("postgres"), site.tools["postgres"]
    stores.make_postgres(tool, data, site.secrets.postgres_password)
    return (
        Process(
            name="postgres",
            argv=stores.postgres_command(tool, data, port),
            env=tool.env(),
            ready=Ready("postgres", port),
            stop_rank=6,
            # Fast shutdown; its SIGTERM would wait until every client has gone.
            stop_signal="SIGINT",
            stop_grace_seconds=STORE_GRACE_SECONDS,
            address=f"{HOST}:{port}",
            about="RDS",
        ),
    )


def _redis(site: Site) -> tuple[Process, ...]:
    port, tool, password = site.ports["redis"], site.tools["redis"], site.secrets.redis_password
    return (
        Process(
            name="redis",
            argv=stores.redis_command(tool, site.folder.data("redis"), port, password),
            env=tool.env(),
            ready=Ready("redis", port, password=password),
            stop_rank=6,
            stop_grace_seconds=STORE_GRACE_SECONDS,
            address=f"{HOST}:{port}",
            about="hot state",
        ),
    )


def _store(site: Site) -> tuple[Process, ...]:
    ports, settings = site.ports, site.settings
    options = {
        "folder": site.folder.data("store"),
        "grpc-port": ports["otlp-grpc"],
        "http-port": ports["otlp-http"],
        "health-port": ports["health:store"],
        "retention-hours": settings.trace_hours,
        "bytes-max": f"{settings.trace_mib_max}MiB",
        "judge-seconds": settings.trace_judge_seconds,
    }
    return (
        Process(
            name="store",
            argv=(sys.executable, "-m", "telemetry.store", *_options(options)),
            env={"SPILLWAY_WORKER": "store"},
            ready=Ready("http", ports["health:store"]),
            # The last: whatever ends may still have something to say.
            stop_rank=10,
            address=f"http://{HOST}:{ports['otlp-http']}",
            about="traces and log lines",
        ),
    )


def _rules(site: Site) -> tuple[Process, ...]:
    folder, ports = site.folder.data("rules"), site.ports
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    options: dict[str, object] = {
        "rules": folder / watch.ALERT_RULES,
        "routes": folder / watch.ALERT_ROUTES,
        "interval": site.settings.scrape_seconds,
        "escalator": f"http://{HOST}:{ports.get('escalator', site.settings.escalator_port)}",
        "console": f"http://{HOST}:{ports.get('console', site.settings.console_port)}",
    }
    return (
        Process(
            name="rules",
            argv=(sys.executable, "-m", "alerts", *_options(options)),
            task=True,
            about="alert rules and routes",
        ),
    )


def _prometheus(site: Site) -> tuple[Process, ...]:
    port, data, tool = site.ports["prometheus"], site.folder.data("prometheus"), site.tools["prometheus"]
    rules = site.folder.data("rules")
    return (
        Process(
            name="prometheus",
            argv=watch.prometheus_command(tool, data, site.ports, site.folder.targets, rules, site.settings.scrape_seconds),
            ready=Ready("http", port, "/-/ready"),
            needs=("rules",),
            stop_rank=9,
            address=f"http://{HOST}:{port}",
            about="metrics and rules",
        ),
    )


def _alertmanager(site: Site) -> tuple[Process, ...]:
    port, data, tool = site.ports["alertmanager"], site.folder.data("alertmanager"), site.tools["alertmanager"]
    return (
        Process(
            name="alertmanager",
            argv=watch.alertmanager_command(tool, data, port, site.folder.data("rules")),
            ready=Ready("http", port, "/-/ready"),
            needs=("rules", "escalator", "prometheus"),
            stop_rank=ALERTMANAGER_STOP_RANK,
            address=f"http://{HOST}:{port}",
            about="groups and routes alerts",
        ),
    )


def _escalator(site: Site) -> tuple[Process, ...]:
    ports, settings = site.ports, site.settings
    options = {
        "port": ports["escalator"],
        "health-port": ports["health:escalator"],
        "data": site.folder.data("escalator"),
        "alertmanager": f"http://{HOST}:{ports.get('alertmanager', settings.alertmanager_port)}",
        "console": f"http://{HOST}:{ports.get('console', settings.console_port)}",
        **({"ledger": f"http://{HOST}:{ports['health:ledger']}"} if "health:ledger" in ports else {}),
    }
    return (
        Process(
            name="escalator",
            argv=(sys.executable, "-m", "alerts.escalator", *_options(options)),
            env={"SPILLWAY_WORKER": "escalator"},
            ready=Ready("http", ports["health:escalator"]),
            needs=_watched(site),
            stop_rank=ESCALATOR_STOP_RANK,
            address=f"http://{HOST}:{ports['escalator']}",
            about="pages people",
        ),
    )


def _quiet_start(site: Site) -> tuple[Process, ...]:
    options = {
        "alertmanager": f"http://{HOST}:{site.ports.get('alertmanager', site.settings.alertmanager_port)}",
        "seconds": site.settings.quiet_start_seconds,
        "introduce": site.folder.data("rules") / watch.INTRODUCTION,
    }
    return (
        Process(
            name="quiet-start",
            argv=(sys.executable, "-m", "alerts.quiet_start", *_options(options)),
            needs=("alertmanager",),
            task=True,
            about="keeps a start from paging",
        ),
    )


def _watch(site: Site) -> tuple[Process, ...]:
    build = ours(
        "watch",
        "alerts.watch",
        stop_rank=WATCH_STOP_RANK,
        needs=("quiet-start", "alertmanager", "escalator", *_watched(site)),
        about="watches the watchers",
        env={"SPILLWAY_WATCH_WITHOUT": _unwatchable(site)},
    )
    return build(site)


def _unwatchable(site: Site) -> str:
    """Watchers that this stack does not have."""
    port_of = {"prometheus": "prometheus", "alertmanager": "alertmanager", "escalator": "escalator", "console": "console"}
    port_of |= {"canary": "health:canary", "ledger": "health:ledger"}
    return ",".join(name for name, port in port_of.items() if port not in site.ports)


def _watched(site: Site) -> tuple[str, ...]:
    """Every process of ours but those that page."""
    names = (name.removeprefix("health:") for name in site.ports if name.startswith("health:"))
    return tuple(name for name in names if name not in ("escalator", "watch"))


def _console(site: Site) -> tuple[Process, ...]:
    ports = site.ports
    options = {
        "port": ports["console"],
        "health-port": ports["health:console"],
        "targets": site.folder.targets,
        **watch.sources(ports),
    }
    return (
        Process(
            name="console",
            argv=(sys.executable, "-m", "dashboards.console", *_options(options)),
            env={"SPILLWAY_WORKER": "console"},
            ready=Ready("http", ports["health:console"]),
            stop_rank=9,
            address=f"http://{HOST}:{ports['console']}",
            about="the console",
        ),
    )


def _options(values: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(word for name, value in values.items() for word in (f"--{name}", str(value)))


PARTS: tuple[Part, ...] = (
    Part("ministack", "S3, DynamoDB, KMS", _ministack, ports=(("ministack", "ministack_port"),), tools=("ministack",)),
    Part("emulator", "Kinesis, Firehose", _emulator, ports=(("emulator", "emulator_port"),)),
    Part("provision", "makes streams, bucket, tables, keys", _provision),
    Part("postgres", "RDS: history and current state", _postgres, ports=(("postgres", "postgres_port"),), tools=("postgres",)),
    Part("redis", "hot state", _redis, ports=(("redis", "redis_port"),), tools=("redis",)),
    Part(
        "grpc",
        "gRPC door",
        ours("grpc", "pipeline.doors", "grpc", stop_rank=2, address="grpc", about="gRPC door"),
        ports=(("grpc", "grpc_port"),),
        workers=lambda settings: settings.grpc_workers,
    ),
    Part(
        "http",
        "HTTP door",
        ours("http", "pipeline.doors", "http", stop_rank=0, address="http", about="HTTP door"),
        ports=(("http", "http_port"),),
        workers=lambda settings: settings.http_workers,
    ),
    Part(
        "transcoder",
        "JSON to Protobuf",
        ours("transcoder", "pipeline.transcoder", stop_rank=1, about="JSON to Protobuf"),
        workers=lambda _: 1,
    ),
    Part(
        "redactor",
        "takes personal data out",
        ours("redactor", "pipeline.redactor", stop_rank=3, about="takes personal data out"),
        workers=lambda _: 1,
    ),
    Part(
        "etl",
        "loads lake, RDS, Redis",
        ours(
            "etl",
            "pipeline.etl",
            stop_rank=4,
            needs=("provision", "postgres", "redis"),
            about="loads lake, RDS, Redis",
            start_seconds_max=ETL_START_SECONDS_MAX,
        ),
        workers=lambda _: 1,
    ),
    Part(
        "auditor",
        "reads the backup",
        ours("auditor", "pipeline.backup.auditor", stop_rank=5, about="reads the backup"),
        workers=lambda _: 1,
    ),
    Part(
        "canary",
        "sends probes and looks for them at every exit",
        # The first to stop: what it has under way is still to be delivered, and it finds it there when it comes back.
        ours(
            "canary",
            "canary",
            stop_rank=0,
            needs=("provision", "grpc", "http", "transcoder", "redactor", "etl"),
            about="proves delivery",
        ),
        workers=lambda _: 1,
    ),
    Part(
        "ledger",
        "accounts for every acknowledged event",
        # Ends before the stores that it reads.
        ours("ledger", "canary.ledger", stop_rank=5, about="accounts for every acknowledged event"),
        workers=lambda _: 1,
    ),
    Part(
        "store",
        "traces and log lines",
        _store,
        ports=(("otlp-grpc", "otlp_grpc_port"), ("otlp-http", "otlp_http_port")),
        workers=lambda _: 1,
    ),
    Part("rules", "makes alert rules and routes", _rules),
    Part("prometheus", "metrics and rules", _prometheus, ports=(("prometheus", "prometheus_port"),), tools=("prometheus",)),
    Part("console", "the console", _console, ports=(("console", "console_port"),), workers=lambda _: 1),
    Part(
        "escalator",
        "pages people, and the next until one acknowledges",
        _escalator,
        ports=(("escalator", "escalator_port"),),
        workers=lambda _: 1,
    ),
    Part(
        "alertmanager",
        "groups and routes alerts",
        _alertmanager,
        ports=(("alertmanager", "alertmanager_port"),),
        tools=("alertmanager",),
    ),
    Part("quiet-start", "keeps a start from paging", _quiet_start),
    Part("watch", "watches the watchers", _watch, workers=lambda _: 1),
)

NAMES: tuple[str, ...] = tuple(part.name for part in PARTS)


def wanted_ports(parts: tuple[Part, ...], settings: StackSettings) -> dict[str, int]:
    """Every port that these parts want, by name, with its fixed number. Health ports are named `health:<process>`."""
    fixed = {name: getattr(settings, field) for part in parts for name, field in part.ports}
    # Numbered over all parts, so that a part keeps its number when others are left out.
    numbered = [name for part in PARTS for name in part.names(settings)]
    chosen = {name for part in parts for name in part.names(settings)}
    health = {f"health:{name}": HEALTH_PORT_FIRST + number for number, name in enumerate(numbered) if name in chosen}
    return fixed | health


def scraped(parts: tuple[Part, ...], settings: StackSettings, ports: Mapping[str, int]) -> list[watch.Target]:
    """Whom Prometheus looks at: every process of these parts with a health port."""
    return [watch.Target(part.name, name, ports[f"health:{name}"]) for part in parts for name in part.names(settings)]


def plan(parts: tuple[Part, ...], site: Site) -> Plan:
    """Build the processes; what a process needs and this stack does not have is not waited for."""
    built = [process for part in parts for process in part.build(site)]
    names = {process.name for process in built}
    return Plan(tuple(_with_what_there_is(process, names) for process in built))


def _with_what_there_is(process: Process, names: set[str]) -> Process:
    return replace(
        process,
        needs=tuple(name for name in process.needs if name in names),
        again_after=tuple(name for name in process.again_after if name in names),
    )
