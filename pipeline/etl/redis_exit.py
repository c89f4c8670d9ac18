"""Redis: the hot state, one hash per subject.

    state:{tenant}:{entity}:{subject}    <attribute> -> value,   @<attribute> -> when it was said

Rules. A value is replaced only by one said later: compared and set in Lua, per attribute, so any order and any number of
repetitions give the same state (TRAPS 23). Redis is a cache: what it lost it gets back by `spillway rebuild redis`, which may run
beside the stream. No history is kept here, so a conflicting event (same identity, other content) with a later event time can
show here until a FLUSHALL and a rebuild; RDS and the lake keep the first.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import cast

import redis

from pipeline.errors import Unavailable
from pipeline.etl.fold import Said, State, by_subject

# Subjects in one round trip.
PIPELINE_SUBJECTS_MAX = 500
_TIMEOUT_SECONDS = 10

# KEYS[1]: the subject's hash. ARGV: attribute, token, value, repeated. Tokens compare as texts (fold.Order.token).
COMPARE_AND_SET = """
local changed = 0
for i = 1, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], '@' .. ARGV[i])
  if not known or known < ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2], '@' .. ARGV[i], ARGV[i + 1])
    changed = changed + 1
  end
end
return changed
"""

Subject = tuple[tuple[str, str, str], Sequence[tuple[str, Said]]]


def connect(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS)


def state_key(tenant: str, entity: str, subject: str) -> str:
    return f"state:{tenant}:{entity}:{subject}"


def apply_state(client: "redis.Redis", state: State) -> int:
    """Bring in what is newer; the number of attributes that changed.

    Raises:
        Unavailable: some of it may be in; all of it may be brought again.
    """
    return apply_subjects(client, by_subject(state).items())


def apply_subjects(client: "redis.Redis", subjects: Iterable[Subject]) -> int:
    changed = 0
    waiting = iter(subjects)
    try:
        while some := list(islice(waiting, PIPELINE_SUBJECTS_MAX)):
            # Loaded each time: a Redis that was restarted or flushed has forgotten it.
            sha = client.script_load(COMPARE_AND_SET)
            with client.pipeline(transaction=False) as pipe:
                for (tenant, entity, subject), said in some:
                    pipe.evalsha(sha, 1, state_key(tenant, entity, subject), *_arguments(said))
                changed += sum(int(answer) for answer in pipe.execute())
    except redis.RedisError as exc:
        raise Unavailable(f"Redis: {type(exc).__name__}: {exc}") from exc
    return changed


def _arguments(said: Sequence[tuple[str, Said]]) -> Iterator[str]:
    for attribute, one in said:
        yield attribute
        yield one.order.token()
        yield one.value


def read_state(client: "redis.Redis", tenant: str, entity: str, subject: str) -> dict[str, str]:
    """The current state of one subject, without the order tokens."""
    raw = cast(dict[bytes, bytes], client.hgetall(state_key(tenant, entity, subject)))
    return {key.decode(): value.decode() for key, value in raw.items() if not key.startswith(b"@")}
