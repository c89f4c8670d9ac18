"""Redis for real: any order, any repetition, and back after it lost everything."""

import random

from pipeline.etl import rds, redis_exit
from pipeline.etl.fold import Attribute, Order, Said, fold
from pipeline.etl.rebuild import rebuild_redis
from tests.etl.events import decoded, moved, read


def test_user_10001_moved_in_any_order(redis_url: str):
    """TRAPS 23."""
    client = redis_exit.connect(redis_url)
    history = [
        moved("1", at=1, city="Montreal", country="CA"),
        moved("2", at=2, city="Toronto"),
        moved("3", at=3, city="New York", country="US"),
    ]
    rng = random.Random(7)
    for _ in range(5):
        rng.shuffle(history)
        for event in history:
            redis_exit.apply_state(client, fold(read(event)))
        assert {"city": "New York", "country": "US"} == redis_exit.read_state(client, "acme", "customer", "10001")


def test_a_repetition_changes_nothing(redis_url: str):
    client = redis_exit.connect(redis_url)
    state = fold(read(*(moved(str(n), at=n, who=str(n % 700), city=f"city {n}") for n in range(1500))))
    assert (700, 0) == (redis_exit.apply_state(client, state), redis_exit.apply_state(client, state))


def test_lua_compares_as_the_fold_does(redis_url: str):
    """Ids of which one begins the other, bytes above 127, moments before 1970."""
    client = redis_exit.connect(redis_url)
    orders = [Order(t, id, key) for t in (-5, 0, 5) for id in (b"", b"a", b"ab", b"b", b"\xff") for key in (b"\0", b"\x01")]
    at = Attribute("t", "e", "s", "a")
    for left in orders:
        for right in orders:
            client.flushdb()
            redis_exit.apply_state(client, {at: Said(left, "left")})
            redis_exit.apply_state(client, {at: Said(right, "right")})
            expected = "right" if right > left else "left"
            assert {"a": expected} == redis_exit.read_state(client, "t", "e", "s")


def test_after_flushall_everything_comes_back_from_rds_also_beside_the_stream(redis_url: str, rds_url: str):
    connection, client = rds.connect(rds_url), redis_exit.connect(redis_url)
    part = decoded(*(moved(str(n), at=n, who=f"{n % 90}:ä", city=f"city {n}") for n in range(300)))
    rds.load(connection, part, rds.take_fence(connection))
    connection.close()
    redis_exit.apply_state(client, fold(part.events))
    before = {key: client.hgetall(key) for key in client.scan_iter()}  # type: ignore[union-attr]
    client.flushall()
    newer = fold(read(moved("newer", at=1000, who="5:ä", city="Newer")))
    redis_exit.apply_state(client, newer)
    assert (90, 89) == rebuild_redis(rds_url, redis_url)
    assert {"city": "Newer"} == redis_exit.read_state(client, "acme", "customer", "5:ä")
    after = {key: client.hgetall(key) for key in client.scan_iter()}  # type: ignore[union-attr]
    assert 90 == len(before)
    changed = {key for key in before if before[key] != after[key]}
    assert {"state:acme:customer:5:ä".encode()} == changed
    assert (90, 0) == rebuild_redis(rds_url, redis_url)
