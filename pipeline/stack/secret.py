"""Passwords and API keys of a local stack: made once, kept in the state folder for its user alone."""

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, fields

from pipeline.event import CANARY_TENANT
from pipeline.stack.folder import Folder, read_object, write_whole

SECRET_BYTES = 24
DEMO_TENANT = "demo"
SERVICE_TENANT = "spillway"
# Before there was a stack.
REVOKED_AT = "2026-01-01T00:00:00+00:00"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    postgres_password: str
    redis_password: str
    # What the transcoder and other parts of ours show at the doors.
    service_key: str
    # What the demo, and whoever tries the stack, shows at the doors.
    demo_key: str
    # What the canary shows at the doors, and one of its keys that is revoked from the beginning: it must be refused.
    canary_key: str
    canary_revoked_key: str


def make_secrets(folder: Folder) -> Secrets:
    """Read them; make what is missing. The doors' keys file gets a line for a key that it does not have.

    A key that was revoked there stays revoked: its line is found by its id.
    """
    kept = read_object(folder.secrets)
    made = Secrets(
        postgres_password=secrets.token_hex(SECRET_BYTES),
        redis_password=secrets.token_hex(SECRET_BYTES),
        service_key=f"spw_service_{secrets.token_hex(SECRET_BYTES)}",
        demo_key=f"spw_demo_{secrets.token_hex(SECRET_BYTES)}",
        canary_key=f"spw_canary_{secrets.token_hex(SECRET_BYTES)}",
        canary_revoked_key=f"spw_canary-revoked_{secrets.token_hex(SECRET_BYTES)}",
    )
    made = Secrets(**(asdict(made) | {field.name: kept[field.name] for field in fields(Secrets) if field.name in kept}))
    if asdict(made) != kept:
        write_whole(folder.secrets, json.dumps(asdict(made), indent=1), 0o600)
    lines = folder.keys.read_text() if folder.keys.exists() else ""
    missing = [line for line in _key_lines(made) if json.dumps(line["key_id"]) not in lines]
    if missing:
        text = lines + "".join(json.dumps(line) + "\n" for line in missing)
        write_whole(folder.keys, text, 0o600)
    return made


def _key_lines(made: Secrets) -> list[dict[str, str]]:
    return [
        _key_line("service", made.service_key, SERVICE_TENANT, "service"),
        _key_line("demo", made.demo_key, DEMO_TENANT, "producer"),
        _key_line("canary", made.canary_key, CANARY_TENANT, "producer"),
        {**_key_line("canary-revoked", made.canary_revoked_key, CANARY_TENANT, "producer"), "revoked_at": REVOKED_AT},
    ]


def _key_line(key_id: str, key: str, tenant: str, role: str) -> dict[str, str]:
    """The form that `pipeline.doors.keys` reads."""
    return {"key_id": key_id, "sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": tenant, "role": role}
