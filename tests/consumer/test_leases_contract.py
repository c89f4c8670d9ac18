"""What a lease table must do, on memory and on DynamoDB."""

import uuid
from dataclasses import replace
from typing import Any

import pytest

from pipeline.consumer.dynamodb import DynamoLeases
from pipeline.consumer.lease import Lease, Leases, MemoryLeases, Trial
from pipeline.consumer.stream import SHARD_END, TRIM_HORIZON
from pipeline.errors import LeaseLost, Unavailable

from .conftest import client


@pytest.fixture(params=["memory", pytest.param("dynamodb", marks=pytest.mark.stack)])
async def leases(request: pytest.FixtureRequest) -> Leases:
    if request.param == "memory":
        return MemoryLeases()
    made = DynamoLeases(client(request.getfixturevalue("aws"), "dynamodb"), f"app-{uuid.uuid4().hex[:8]}", "events")
    await made.ensure_table()
    return made


async def only(leases: Leases) -> Lease:
    (lease,) = await leases.all()
    return lease


async def taken(leases: Leases, owner: str = "a") -> Lease:
    await leases.create("s0")
    lease = await leases.take(await only(leases), owner)
    assert lease is not None
    return lease


async def test_a_new_lease_is_unread_and_nobodys(leases: Leases) -> None:
    await leases.create("s0")
    assert Lease("s0", owner="", counter=0, heartbeat=0, checkpoint=TRIM_HORIZON, takes=0, trial=None) == await only(leases)


async def test_creating_again_changes_nothing(leases: Leases) -> None:
    held = await taken(leases)
    await leases.checkpoint(held, "7")
    await leases.create("s0")
    assert ("a", "7") == ((await only(leases)).owner, (await only(leases)).checkpoint)


async def test_of_two_that_saw_the_same_lease_one_takes_it(leases: Leases) -> None:
    await leases.create("s0")
    seen = await only(leases)
    first, second = await leases.take(seen, "a"), await leases.take(seen, "b")
    assert first is not None
    assert second is None
    assert "a" == (await only(leases)).owner


async def test_a_lease_that_its_owner_moved_meanwhile_is_not_taken(leases: Leases) -> None:
    held = await taken(leases)
    seen = await only(leases)
    await leases.renew(held)
    assert await leases.take(seen, "b") is None


async def test_whoever_lost_a_lease_can_do_nothing_with_it(leases: Leases) -> None:
    """TRAPS 16."""
    zombie = await taken(leases)
    assert await leases.take(await only(leases), "b") is not None
    before = await only(leases)
    for attempt in (
        leases.renew(zombie),
        leases.checkpoint(zombie, "9"),
        leases.note(zombie, Trial("1", "2", 1)),
        leases.release(zombie, forgive=True),
    ):
        with pytest.raises(LeaseLost):
            await attempt
    assert before == await only(leases)


async def test_the_same_owner_is_fenced_from_its_own_earlier_lease(leases: Leases) -> None:
    """TRAPS 16: the counter is the fence, not the name."""
    earlier = await taken(leases)
    assert await leases.take(await only(leases), "a") is not None
    with pytest.raises(LeaseLost):
        await leases.checkpoint(earlier, "9")


async def test_takes_are_counted_until_the_checkpoint_moves(leases: Leases) -> None:
    """TRAPS 17."""
    await taken(leases)
    held = await leases.take(await only(leases), "b")
    assert held is not None
    assert 2 == held.takes
    await leases.note(held, Trial("1", "5", 1))
    assert (2, Trial("1", "5", 1)) == ((await only(leases)).takes, (await only(leases)).trial)
    await leases.checkpoint(held, "5")
    assert (0, None, "5") == ((await only(leases)).takes, (await only(leases)).trial, (await only(leases)).checkpoint)


async def test_a_trial_outlives_its_owner(leases: Leases) -> None:
    """TRAPS 17."""
    held = await taken(leases)
    await leases.note(held, Trial("1", "5", 2))
    next_owner = await leases.take(await only(leases), "b")
    assert next_owner is not None
    assert Trial("1", "5", 2) == next_owner.trial


@pytest.mark.parametrize(("forgive", "expected"), [(True, (0, None)), (False, (1, Trial("1", "5", 1)))])
async def test_a_release_forgives_or_does_not(leases: Leases, forgive: bool, expected: Any) -> None:
    held = await taken(leases)
    await leases.note(held, Trial("1", "5", 1))
    await leases.release(held, forgive=forgive)
    lease = await only(leases)
    assert ("", *expected) == (lease.owner, lease.takes, lease.trial)


async def test_only_a_drained_lease_is_forgotten(leases: Leases) -> None:
    held = await taken(leases)
    await leases.delete(held)
    assert "s0" == (await only(leases)).shard_id
    await leases.checkpoint(held, SHARD_END)
    await leases.delete(held)
    await leases.delete(held)
    assert [] == await leases.all()


async def test_a_lease_that_is_gone_is_lost(leases: Leases) -> None:
    held = await taken(leases)
    await leases.checkpoint(held, SHARD_END)
    await leases.delete(held)
    with pytest.raises(LeaseLost):
        await leases.renew(held)
    assert await leases.take(replace(held), "b") is None


@pytest.mark.stack
async def test_applications_and_streams_do_not_see_each_others_leases(request: pytest.FixtureRequest) -> None:
    dynamodb, app = client(request.getfixturevalue("aws"), "dynamodb"), uuid.uuid4().hex
    one, other = DynamoLeases(dynamodb, app, "events"), DynamoLeases(dynamodb, app, "events-clean")
    await one.ensure_table()
    await one.create("s0")
    assert [] == await other.all()


async def test_a_table_that_cannot_be_reached_is_unavailable() -> None:
    import boto3
    from botocore.config import Config

    closed = boto3.client(
        "dynamodb", endpoint_url="http://127.0.0.1:1", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=1),
    )  # fmt: skip
    with pytest.raises(Unavailable):
        await DynamoLeases(closed, "app", "events").all()
