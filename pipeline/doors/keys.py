"""API keys: who is at the door. A key names the tenant; the payload never does.

Rules. The file holds only hashes, one JSON object a line: {"key_id", "sha256", "tenant", "role", "revoked_at"?}. A key's text is
`spw_<key_id>_<secret>`, the hash is over all of it, and it is compared in constant time. The file is read again when it changes,
looked at once a second at most, so a revocation holds within a second and without a restart; a key that is not known yet makes
it looked at sooner, so that a new key is good at once. A file that is broken or gone keeps the last good one in force, says so
in the log and in a metric, and never opens the door.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import orjson

from pipeline.errors import InvalidConfiguration
from pipeline.streams.retry import Clock
from telemetry.log import Logger
from telemetry.metrics import DOOR_KEYS_USABLE, Metrics

Role = Literal["producer", "service"]
CHECK_SECONDS = 1.0
UNKNOWN_CHECK_SECONDS = 0.01
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_BEARER = "Bearer "


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the file."""

    key_id: str
    sha256: str
    tenant: str
    role: Role = "producer"
    revoked_at: str | None = None


def is_tenant(name: str) -> bool:
    return _TENANT.fullmatch(name) is not None


class KeyStore:
    """The keys in force. Needs no file at the start: until there is a good one, nobody is let in."""

    def __init__(self, path: Path, *, clock: Clock, log: Logger, metrics: Metrics, door: str) -> None:
        self._path, self._clock, self._log = path, clock, log
        self._usable = metrics.gauge(DOOR_KEYS_USABLE, door=door)
        self._keys: Mapping[str, Key] = {}
        self._seen: tuple[int, int, int] | None = None
        self._complaint = ""
        self._look()

    def find(self, authorization: str) -> Key | None:
        """The key of an `authorization` header, or None if it is missing, unknown or revoked."""
        if self._clock() - self._looked >= CHECK_SECONDS:
            self._look()
        if authorization[: len(_BEARER)].lower() != _BEARER.lower():
            return None
        text = authorization[len(_BEARER) :].strip()
        parts = text.split("_", 2)
        if len(parts) != 3 or parts[0] != "spw":
            return None
        if parts[1] not in self._keys and self._clock() - self._looked >= UNKNOWN_CHECK_SECONDS:
            self._look()
        key = self._keys.get(parts[1])
        if key is None or not hmac.compare_digest(key.sha256, hashed(text)) or key.revoked_at is not None:
            return None
        return key

    def _look(self) -> None:
        self._looked = self._clock()
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._keys = {key.key_id: key for key in read_keys(self._path)}
                self._seen = seen
            complaint = ""
        except (OSError, InvalidConfiguration) as exc:
            complaint = f"{type(exc).__name__}: {exc}"
        if complaint != self._complaint:
            if complaint:
                self._log.error("keys file can't be used, the last good one stays in force", complaint=complaint)
            else:
                self._log.info("keys file is good again", keys=len(self._keys))
        self._complaint = complaint
        self._usable.set(0 if complaint else 1)


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """Raises: OSError; InvalidConfiguration: a line is not a key; the message says which, never what it holds."""
    keys: list[Key] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
            key = Key(**value)
            good = all(isinstance(part, str) for part in (key.key_id, key.sha256, key.tenant)) and len(key.sha256) == 64
        except (TypeError, ValueError) as exc:
            raise InvalidConfiguration(f"{path}, line {number}: not a key") from exc
        if not good or key.role not in ("producer", "service") or not is_tenant(key.tenant):
            raise InvalidConfiguration(f"{path}, line {number}: not a key (tenants are [a-z0-9_-], at most 64 characters)")
        keys.append(key)
    return keys


def add_key(path: Path, tenant: str, role: Role) -> str:
    """Make a key, store its hash and return its text, which is nowhere else.

    Raises:
        InvalidConfiguration: the tenant's name can't be one.
    """
    if not is_tenant(tenant):
        raise InvalidConfiguration(f"{tenant!r} is no name for a tenant: lower-case letters, digits, _ and -, at most 64")
    key_id = secrets.token_hex(6)
    text = f"spw_{key_id}_{secrets.token_urlsafe(32)}"
    with _editing(path) as keys:
        keys.append(Key(key_id, hashed(text), tenant, role))
    return text


def revoke_key(path: Path, key_id: str, now: datetime) -> bool:
    """Whether there was such a key in force."""
    with _editing(path) as keys:
        for index, key in enumerate(keys):
            if key.key_id == key_id and key.revoked_at is None:
                keys[index] = replace(key, revoked_at=now.isoformat(timespec="seconds"))
                return True
    return False


@contextmanager
def _editing(path: Path) -> Iterator[list[Key]]:
    """One editor at a time; readers see the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read_keys(path) if path.exists() else []
        yield keys
        fresh = path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as out:
            out.write(_lines(keys))
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(path)


def _lines(keys: Sequence[Key]) -> bytes:
    lines = [{name: value for name in Key.__slots__ if (value := getattr(key, name)) is not None} for key in keys]
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)
