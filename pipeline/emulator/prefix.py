"""The names that Firehose gives its S3 objects.

Rules
- Key = evaluated prefix + `<stream>-<version>-yyyy-MM-dd-HH-mm-ss-<uuid>` + extension.
- A prefix without a timestamp expression gets `!{timestamp:yyyy/MM/dd/HH/}` behind it; the default prefix is just that.
- `!{timestamp:...}` is a Java DateTimeFormatter pattern at the arrival of the object's oldest record, in UTC unless
  CustomTimeZone says otherwise; letters in single quotes stand for themselves. `!{firehose:random-string}` is new at
  every place it stands. `!{firehose:error-output-type}` belongs to ErrorOutputPrefix alone, which must hold it.
Source: Firehose Developer Guide, "Understand custom prefixes for Amazon S3 objects" and "Configure Amazon S3 object
name format".
"""

from __future__ import annotations

import random as random_module
import re
import string
import uuid
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import invalid

EXPRESSION = re.compile(r"!\{([A-Za-z]+):([^}]*)\}")
DEFAULT_TIME = "!{timestamp:yyyy/MM/dd/HH/}"
JAVA_FIELDS = {"yyyy": "%Y", "YYYY": "%Y", "MM": "%m", "dd": "%d", "DD": "%j", "HH": "%H", "mm": "%M", "ss": "%S"}
JAVA_TOKEN = re.compile(r"'([^']*)'|([A-Za-z])\2*|[^A-Za-z']+")
KEY_PREFIX_CHARACTERS_MAX = 512
ERROR_TYPE = "!{firehose:error-output-type}"


def check(prefix: str, error_prefix: str, zone: str) -> None:
    """Raises: AwsError where AWS would refuse the pair at creation."""
    try:
        ZoneInfo(zone or "UTC")
    except ZoneInfoNotFoundError as exc:
        raise invalid(f"CustomTimeZone {zone} is not known.") from exc
    if ERROR_TYPE in prefix:
        raise invalid(f"Prefix must not contain {ERROR_TYPE}.")
    if EXPRESSION.search(prefix) and not error_prefix:
        raise invalid("ErrorOutputPrefix is required when Prefix contains expressions.")
    if error_prefix and ERROR_TYPE not in error_prefix and EXPRESSION.search(error_prefix):
        raise invalid(f"ErrorOutputPrefix must contain at least one instance of {ERROR_TYPE}.")
    probe = datetime(2000, 1, 2, 3, tzinfo=UTC)
    for text in (prefix, error_prefix.replace(ERROR_TYPE, "processing-failed")):
        if len(_expand(text, probe, random_module.Random(0))) > KEY_PREFIX_CHARACTERS_MAX:
            raise invalid(f"A prefix must not be longer than {KEY_PREFIX_CHARACTERS_MAX} characters when evaluated.")


def object_key(
    prefix: str,
    zone: str,
    stream: str,
    version: int,
    oldest_ms: int,
    extension: str,
    random: random_module.Random,
) -> str:
    """The key of one object; another call gives another, as a retry on AWS does."""
    at = datetime.fromtimestamp(oldest_ms / 1000, ZoneInfo(zone or "UTC"))
    if "!{timestamp:" not in prefix:
        prefix += DEFAULT_TIME
    unique = uuid.UUID(int=random.getrandbits(128), version=4)
    return f"{_expand(prefix, at, random)}{stream}-{version}-{at:%Y-%m-%d-%H-%M-%S}-{unique}{extension}"


def _expand(prefix: str, at: datetime, random: random_module.Random) -> str:
    def value(found: re.Match[str]) -> str:
        namespace, text = found.groups()
        if namespace == "timestamp":
            return _java_time(text, at)
        if (namespace, text) == ("firehose", "random-string"):
            return "".join(random.choices(string.ascii_letters + string.digits, k=11))
        raise invalid(f"The expression {found.group(0)} is not one that a prefix may hold here.")

    return EXPRESSION.sub(value, prefix)


def _java_time(pattern: str, at: datetime) -> str:
    out: list[str] = []
    for token in JAVA_TOKEN.finditer(pattern):
        text = token.group(0)
        if text.startswith("'"):
            out.append(token.group(1) or "'")
        elif text[0].isalpha() and text.isascii():
            if text not in JAVA_FIELDS:
                raise invalid(f"The timestamp pattern {text} is not modelled here; known are {sorted(JAVA_FIELDS)}.")
            out.append(at.strftime(JAVA_FIELDS[text]))
        else:
            out.append(text)
    return "".join(out)
