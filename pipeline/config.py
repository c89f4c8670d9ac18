"""Configuration: environment and one TOML file, read once, at the composition root, into one frozen object per part.

A part declares its settings as a frozen dataclass with a `SECTION` and defaults that work. `load(DoorSettings)` fills it:
field `port` of section `http` comes from `SPILLWAY_HTTP_PORT`, else from `[http] port` in the file named by `SPILLWAY_CONFIG`
(default `spillway.toml` if there is one), else from the default. An unknown key in a known section is an error, because a
misspelt setting that is silently ignored is how a safety net is found missing later.

Which AWS is used, the local one or the real one, is no setting of ours: `AWS_ENDPOINT_URL` and its per-service forms decide.
"""

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from pipeline.errors import InvalidConfiguration


class Section(Protocol):
    SECTION: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=Section)

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def load(section: type[T], env: Mapping[str, str] | None = None) -> T:
    """Fill one part's settings.

    Raises:
        InvalidConfiguration: a value does not fit its type, or the file names a setting that this part does not have.
    """
    env = os.environ if env is None else env
    table = _file(env).get(section.SECTION, {}) if section.SECTION else _file(env)
    hints = typing.get_type_hints(section)
    fields = {field.name: field for field in dataclasses.fields(section)}
    if section.SECTION:
        unknown = sorted(set(table) - set(fields))
        if unknown:
            raise InvalidConfiguration(f"[{section.SECTION}] has no setting {unknown[0]!r}; it has: {', '.join(sorted(fields))}")
    values: dict[str, Any] = {}
    for name in fields:
        variable = "_".join(part for part in ("SPILLWAY", section.SECTION.upper(), name.upper()) if part)
        if variable in env:
            values[name] = _parse(hints[name], env[variable], variable)
        elif name in table:
            values[name] = _parse(hints[name], table[name], f"[{section.SECTION}] {name}" if section.SECTION else name)
    return section(**values)


def _file(env: Mapping[str, str]) -> dict[str, Any]:
    named = env.get("SPILLWAY_CONFIG")
    path = Path(named or "spillway.toml")
    if not path.exists():
        if named:
            raise InvalidConfiguration(f"SPILLWAY_CONFIG names {path}, which does not exist")
        return {}
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as exc:
        raise InvalidConfiguration(f"{path}: {exc}") from exc


def _parse(hint: Any, value: Any, name: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        if value in (None, ""):
            return None
        hint = next(arm for arm in typing.get_args(hint) if arm is not type(None))
        origin = typing.get_origin(hint)
    try:
        if origin is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            inner = typing.get_args(hint)[0]
            return tuple(_parse(inner, part.strip() if isinstance(part, str) else part, name) for part in parts if part != "")
        if origin is typing.Literal:
            if value not in typing.get_args(hint):
                raise ValueError(f"one of {', '.join(map(str, typing.get_args(hint)))}")
            return value
        if hint is bool:
            return _bool(value)
        if hint in (int, float) and isinstance(value, bool):
            raise ValueError("a number")
        return hint(value)
    except (TypeError, ValueError) as exc:
        raise InvalidConfiguration(f"{name} = {value!r} does not fit {getattr(hint, '__name__', hint)}: {exc}") from exc


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in _TRUE + _FALSE:
        return str(value).lower() in _TRUE
    raise ValueError(f"one of {', '.join(_TRUE + _FALSE)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What every part shares."""

    SECTION: ClassVar[str] = ""

    # Everything that this machine keeps of a local stack.
    state_dir: Path = Path(".spillway")
    region: str = "us-east-1"
    bucket: str = "spillway"
    web_stream: str = "web-events"
    events_stream: str = "events"
    clean_stream: str = "events-clean"
    # Equal parts of the hash space; a stream can grow to this many shards. Fixed for the life of a stream.
    slices: int = 16
    # A folder of a user's own event types, beside those in proto/.
    proto_dir: Path | None = None
    # JSON lines of hashed API keys; see pipeline/doors/README.md.
    keys_file: Path = Path(".spillway/keys.jsonl")
    # Port of this process's /livez, /readyz and /metrics; 0 picks one, none serves nothing.
    health_port: int | None = None
    # Name of this process in logs, metrics and stored batches.
    worker: str = ""
