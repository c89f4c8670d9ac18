"""All that comes before the first process: sweep, fetch tools, choose ports, make secrets and databases, write the plan."""

import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import Settings, load
from pipeline.stack import watch
from pipeline.stack.debian import Debian, Tool
from pipeline.stack.errors import AlreadyUp, PortTaken, StackError
from pipeline.stack.folder import Folder, is_locked, read_object, starting, write_whole
from pipeline.stack.ministack import ministack_python
from pipeline.stack.plan import NAMES, PARTS, Part, Site, StackSettings, plan, scraped, wanted_ports
from pipeline.stack.ports import HOST, free_ports, is_free, require_free
from pipeline.stack.process import Plan
from pipeline.stack.processes import Identity, marked, sweep
from pipeline.stack.secret import Secrets, make_secrets

# How late a probe may be at an exit of this machine, and from then until it is lost.
CANARY_DUE_SECONDS = 15.0
CANARY_LOST_SECONDS = 285.0
_ROOT = Path(__file__).resolve().parents[2]

Say = Callable[[str], None]


def quiet(_: str) -> None:
    """Say nothing."""


def cache_dir(env: Mapping[str, str]) -> Path:
    """Where what was fetched is kept for all stacks."""
    return Path(env.get("SPILLWAY_CACHE_DIR") or _ROOT / ".cache").resolve()


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a prepared stack will answer."""

    folder: Folder
    endpoints: dict[str, str]
    ports: dict[str, int]


def sweep_strays(folder: Folder) -> int:
    """End what a dead supervisor left: by the pid files, torn ones aside, and by the marks in the environment."""
    recorded = [Identity.read(file.read_text()) for file in folder.run.glob("*.pid")] if folder.run.exists() else []
    alive = [identity for identity in recorded if identity is not None and identity.alive()]

    def left() -> set[Identity]:
        return {*(identity for identity in alive if identity.alive()), *marked(folder.mark)}

    hit = sweep(left)
    for file in folder.run.glob("*.pid"):
        file.unlink(missing_ok=True)
    return hit


def prepare(
    state_dir: Path,
    *,
    free_ports: bool,
    parts: tuple[str, ...] = NAMES,
    settings: StackSettings | None = None,
    env: Mapping[str, str] | None = None,
    say: Say = quiet,
) -> Addresses:
    """Everything before the first process: sweep, tools, ports, secrets, databases, the plan.

    Raises:
        AlreadyUp, MissingTool, PortTaken, StackFailed
    """
    chosen = _parts(parts)
    settings = settings or load(StackSettings)
    folder = Folder.at(state_dir)
    folder.make()
    with starting(folder):
        if is_locked(folder.lock):
            raise AlreadyUp(f"the stack in {folder.path} is up already; see `spillway status`, or end it by `spillway down`")
        sweep_strays(folder)
        for held in folder.hold.iterdir():
            held.unlink()
        ports = choose_ports(chosen, settings, folder, free_ports)
        secrets = make_secrets(folder)
        public = _public_env(folder, ports, load(Settings)) | canary_env(ports, settings)
        cache = cache_dir(os.environ)
        site = Site(
            folder=folder,
            ports=ports,
            secrets=secrets,
            tools=_tools(chosen, cache, say),
            ministack_python=_ministack(chosen, cache, say),
            settings=settings,
            region=public["AWS_REGION"],
            env=public,
        )
        # What a former run's producers left is gone.
        for left in folder.targets.glob("*.json"):
            left.unlink()
        watch.write_targets(folder.targets / "stack.json", scraped(chosen, settings, ports))
        made = plan(chosen, site)
        _write_plan(made, folder, {**public, **secret_env(secrets, ports), **(env or {})})
        addresses = Addresses(folder, _endpoints(ports), dict(ports))
        _write_addresses(addresses, public, secrets)
        return addresses


def _parts(names: tuple[str, ...]) -> tuple[Part, ...]:
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise StackError(f"there is no part {unknown[0]!r}; there are: {', '.join(NAMES)}")
    return tuple(part for part in PARTS if part.name in names)


def _tools(parts: tuple[Part, ...], cache: Path, say: Say) -> dict[str, Tool]:
    debian = Debian(cache, say)
    wanted = {tool for part in parts for tool in part.tools}
    makers = {
        "postgres": debian.postgres,
        "redis": debian.redis,
        "prometheus": debian.prometheus,
        "alertmanager": debian.alertmanager,
    }
    return {name: make() for name, make in makers.items() if name in wanted}


def _ministack(parts: tuple[Part, ...], cache: Path, say: Say) -> Path:
    return ministack_python(cache, say) if any("ministack" in part.tools for part in parts) else Path()


def choose_ports(parts: tuple[Part, ...], settings: StackSettings, folder: Folder, any_free: bool) -> dict[str, int]:
    """Fixed ports, or free ones: then the same as last time in this folder where they still are free.

    Raises:
        PortTaken: names who holds it.
    """
    wanted = wanted_ports(parts, settings)
    if not any_free:
        if len(set(wanted.values())) < len(wanted):
            raise PortTaken(f"two parts are set to the same port: {wanted}")
        require_free(wanted)
        return wanted
    last = {name: port for name, port in read_object(folder.stack).get("ports", {}).items() if name in wanted and is_free(port)}
    new = [name for name in wanted if name not in last]
    return {name: last.get(name, 0) for name in wanted} | dict(
        zip(new, free_ports(len(new), frozenset(last.values())), strict=True)
    )


def _endpoints(ports: Mapping[str, int]) -> dict[str, str]:
    web = {"ministack", "emulator", "http", "console", "prometheus", "alertmanager", "escalator", "otlp-http"}
    return {
        name: f"{'http://' if name in web or name.startswith('health:') else ''}{HOST}:{port}" for name, port in ports.items()
    }


def _public_env(folder: Folder, ports: Mapping[str, int], settings: Settings) -> dict[str, str]:
    """Addresses and names; nothing secret. Dummy credentials, so that nothing here ever reaches the real AWS."""
    env = {
        "SPILLWAY_STATE_DIR": str(folder.path),
        "SPILLWAY_KEYS_FILE": str(folder.keys),
        "SPILLWAY_REGION": settings.region,
        "SPILLWAY_BUCKET": settings.bucket,
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    if settings.proto_dir is not None:
        env["SPILLWAY_PROTO_DIR"] = str(settings.proto_dir.resolve())
    if "ministack" in ports:
        env["AWS_ENDPOINT_URL"] = f"http://{HOST}:{ports['ministack']}"
    if "emulator" in ports:
        env["AWS_ENDPOINT_URL_KINESIS"] = env["AWS_ENDPOINT_URL_FIREHOSE"] = f"http://{HOST}:{ports['emulator']}"
    if "grpc" in ports:
        env["SPILLWAY_GRPC_PORT"] = str(ports["grpc"])
        env["SPILLWAY_COLLECTOR"] = env["SPILLWAY_TRANSCODER_TARGET"] = f"{HOST}:{ports['grpc']}"
        env["SPILLWAY_CANARY_GRPC_TARGET"] = env["SPILLWAY_COLLECTOR"]
    if "http" in ports:
        env["SPILLWAY_HTTP_PORT"] = str(ports["http"])
        env["SPILLWAY_CANARY_HTTP_URL"] = f"http://{HOST}:{ports['http']}"
    if "otlp-http" in ports:
        env["SPILLWAY_TELEMETRY_OTLP_ENDPOINT"] = env["SPILLWAY_STORE_URL"] = f"http://{HOST}:{ports['otlp-http']}"
    if "prometheus" in ports:
        env["SPILLWAY_PROMETHEUS_URL"] = env["SPILLWAY_CANARY_PROMETHEUS_URL"] = f"http://{HOST}:{ports['prometheus']}"
    if "alertmanager" in ports:
        env["SPILLWAY_ALERTMANAGER_URL"] = f"http://{HOST}:{ports['alertmanager']}"
    if "escalator" in ports:
        env["SPILLWAY_ESCALATOR_URL"] = f"http://{HOST}:{ports['escalator']}"
    if "health:ledger" in ports:
        env["SPILLWAY_LEDGER_URL"] = f"http://{HOST}:{ports['health:ledger']}"
    if "console" in ports:
        env["SPILLWAY_CONSOLE_URL"] = f"http://{HOST}:{ports['console']}"
    return env


def canary_env(ports: Mapping[str, int], settings: StackSettings) -> dict[str, str]:
    """Local Firehose gathers for seconds, so its probes are due as soon as those of the other exits, and that much later."""
    if "health:canary" not in ports:
        return {}
    due_seconds = CANARY_DUE_SECONDS + settings.firehose_buffer_seconds
    return {
        "SPILLWAY_CANARY_URL": f"http://{HOST}:{ports['health:canary']}",
        "SPILLWAY_CANARY_INTERVAL_SECONDS": str(settings.canary_seconds),
        "SPILLWAY_CANARY_BACKUP_DUE_SECONDS": str(due_seconds),
        "SPILLWAY_CANARY_BACKUP_LOST_SECONDS": str(due_seconds + CANARY_LOST_SECONDS),
    }


def secret_env(secrets: Secrets, ports: Mapping[str, int]) -> dict[str, str]:
    env = {
        "SPILLWAY_TRANSCODER_KEY": secrets.service_key,
        "SPILLWAY_DEMO_KEY": secrets.demo_key,
        "SPILLWAY_CANARY_KEY": secrets.canary_key,
        "SPILLWAY_CANARY_REVOKED_KEY": secrets.canary_revoked_key,
    }
    if "postgres" in ports:
        env["SPILLWAY_RDS_URL"] = f"postgresql://spillway:{secrets.postgres_password}@{HOST}:{ports['postgres']}/spillway"
    if "redis" in ports:
        env["SPILLWAY_REDIS_URL"] = f"redis://:{secrets.redis_password}@{HOST}:{ports['redis']}/0"
    return env


def supervisor_env(env: Mapping[str, str]) -> dict[str, str]:
    """What the supervisor and all parts inherit: nothing of the user's own AWS, and our packages on the path."""
    kept = {name: value for name, value in env.items() if not name.startswith("AWS_")}
    path = [str(_ROOT), *(part for part in kept.get("PYTHONPATH", "").split(":") if part)]
    return kept | {"PYTHONPATH": ":".join(path), "PYTHONUNBUFFERED": "1", "NO_PROXY": f"{HOST},localhost"}


def _write_plan(made: Plan, folder: Folder, shared: Mapping[str, str]) -> None:

    whole = Plan(tuple(replace(process, env={**shared, **process.env}) for process in made.processes))
    write_whole(folder.plan, whole.text(), 0o600)


def _write_addresses(addresses: Addresses, public: Mapping[str, str], secrets: Secrets) -> None:
    content: dict[str, Any] = {
        "endpoints": addresses.endpoints,
        "ports": addresses.ports,
        "env": dict(public),
        "status": str(addresses.folder.status),
    }
    write_whole(addresses.folder.stack, json.dumps(content, indent=1))
    every = {**public, **secret_env(secrets, addresses.ports)}
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in every.items())
    write_whole(addresses.folder.env, lines, 0o600)
