"""Leases in DynamoDB: one item per shard in one table for all applications, every write conditional.

Key `lease_key` = `<app>/<stream>/<shard>`. Attributes: owner, counter, heartbeat, position, takes, and while poison is suspected
trial_first, trial_last, trial_tries. A condition that fails means that somebody else was there: `LeaseLost`, or None on taking.
Every write of the owner can be repeated, so botocore's own retries after a lost reply do no harm.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.consumer.lease import Lease, Trial
from pipeline.consumer.stream import SHARD_END, TRIM_HORIZON
from pipeline.errors import LeaseLost, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TABLE = "spillway-leases"
T = TypeVar("T")
Item = dict[str, Any]

_MINE = "#owner = :owner AND #counter = :counter"
_NAMES = {"#owner": "owner", "#counter": "counter", "#position": "position"}
_BEAT = "heartbeat = heartbeat + :one"
_CALM = "trial_first, trial_last, trial_tries"


class DynamoLeases:
    """The leases of `app` on `stream`."""

    def __init__(self, client: "DynamoDBClient", app: str, stream: str, table: str = TABLE) -> None:
        self._client = client
        self._prefix = f"{app}/{stream}/"
        self._table = table

    async def ensure_table(self) -> None:
        """Create the table if there is none. Raises: Unavailable."""
        await asyncio.to_thread(self._call, self._ensure_table)

    def _ensure_table(self) -> None:
        try:
            self._client.describe_table(TableName=self._table)
        except self._client.exceptions.ResourceNotFoundException:
            try:
                self._client.create_table(
                    TableName=self._table,
                    KeySchema=[{"AttributeName": "lease_key", "KeyType": "HASH"}],
                    AttributeDefinitions=[{"AttributeName": "lease_key", "AttributeType": "S"}],
                    BillingMode="PAY_PER_REQUEST",
                )
            except self._client.exceptions.ResourceInUseException:
                return  # another worker was faster

    async def all(self) -> list[Lease]:
        return await asyncio.to_thread(self._call, self._all)

    def _all(self) -> list[Lease]:
        found: list[Lease] = []
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table,
            ConsistentRead=True,
            FilterExpression="begins_with(lease_key, :prefix)",
            ExpressionAttributeValues={":prefix": {"S": self._prefix}},
        )
        for page in pages:
            found.extend(self._lease(item) for item in page["Items"])
        return sorted(found, key=lambda lease: lease.shard_id)

    async def create(self, shard_id: str) -> None:
        item = {
            **self._key(shard_id),
            "owner": {"S": ""},
            "counter": {"N": "0"},
            "heartbeat": {"N": "0"},
            "position": {"S": TRIM_HORIZON},
            "takes": {"N": "0"},
        }
        put = lambda: self._client.put_item(  # noqa: E731
            TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(lease_key)"
        )
        await asyncio.to_thread(self._conditional, put)

    async def take(self, seen: Lease, owner: str) -> Lease | None:
        values = {
            ":owner": {"S": owner},
            ":one": {"N": "1"},
            ":counter": {"N": str(seen.counter)},
            ":heartbeat": {"N": str(seen.heartbeat)},
        }
        update = lambda: self._client.update_item(  # noqa: E731
            TableName=self._table,
            Key=self._key(seen.shard_id),
            UpdateExpression=f"SET #owner = :owner, #counter = #counter + :one, takes = takes + :one, {_BEAT}",
            ConditionExpression="#counter = :counter AND heartbeat = :heartbeat",
            ExpressionAttributeNames={"#owner": "owner", "#counter": "counter"},
            ExpressionAttributeValues=values,
            ReturnValues="ALL_NEW",
        )
        answer = await asyncio.to_thread(self._conditional, update)
        return None if answer is None else self._lease(answer["Attributes"])

    async def renew(self, held: Lease) -> None:
        await self._as_owner(held, f"SET {_BEAT}")

    async def checkpoint(self, held: Lease, position: str) -> None:
        change = f"SET #position = :position, takes = :zero, {_BEAT} REMOVE {_CALM}"
        await self._as_owner(held, change, {":position": {"S": position}, ":zero": {"N": "0"}})

    async def note(self, held: Lease, trial: Trial) -> None:
        change = f"SET trial_first = :first, trial_last = :last, trial_tries = :tries, {_BEAT}"
        values = {":first": {"S": trial.first}, ":last": {"S": trial.last}, ":tries": {"N": str(trial.tries)}}
        await self._as_owner(held, change, values)

    async def release(self, held: Lease, *, forgive: bool) -> None:
        if forgive:
            change = f"SET #owner = :nobody, takes = :zero, {_BEAT} REMOVE {_CALM}"
            await self._as_owner(held, change, {":nobody": {"S": ""}, ":zero": {"N": "0"}})
        else:
            await self._as_owner(held, f"SET #owner = :nobody, {_BEAT}", {":nobody": {"S": ""}})

    async def delete(self, seen: Lease) -> None:
        delete = lambda: self._client.delete_item(  # noqa: E731
            TableName=self._table,
            Key=self._key(seen.shard_id),
            ConditionExpression="#position = :end",
            ExpressionAttributeNames={"#position": "position"},
            ExpressionAttributeValues={":end": {"S": SHARD_END}},
        )
        await asyncio.to_thread(self._conditional, delete)

    async def _as_owner(self, held: Lease, change: str, values: Item | None = None) -> None:
        """One fenced write. Raises: LeaseLost, Unavailable."""
        names = {alias: name for alias, name in _NAMES.items() if alias in change or alias in _MINE}
        fence = {":owner": {"S": held.owner}, ":counter": {"N": str(held.counter)}, ":one": {"N": "1"}}
        update = lambda: self._client.update_item(  # noqa: E731
            TableName=self._table,
            Key=self._key(held.shard_id),
            UpdateExpression=change,
            ConditionExpression=_MINE,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={**fence, **(values or {})},
        )
        if await asyncio.to_thread(self._conditional, update) is None:
            raise LeaseLost(f"{held.shard_id} was taken from {held.owner}")

    def _conditional(self, call: Callable[[], T]) -> T | None:
        """The call's answer, or None if its condition failed."""

        def caught() -> T | None:
            try:
                return call()
            except self._client.exceptions.ConditionalCheckFailedException:
                return None

        return self._call(caught)

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except ClientError as exc:
            raise Unavailable(f"{self._table}: {exc.response['Error']['Code']}") from exc
        except BotoCoreError as exc:
            raise Unavailable(f"{self._table}: {type(exc).__name__}") from exc

    def _key(self, shard_id: str) -> Item:
        return {"lease_key": {"S": self._prefix + shard_id}}

    def _lease(self, item: Item) -> Lease:
        trial = None
        if "trial_first" in item:
            trial = Trial(item["trial_first"]["S"], item["trial_last"]["S"], int(item["trial_tries"]["N"]))
        return Lease(
            shard_id=item["lease_key"]["S"].removeprefix(self._prefix),
            owner=item["owner"]["S"],
            counter=int(item["counter"]["N"]),
            heartbeat=int(item["heartbeat"]["N"]),
            checkpoint=item["position"]["S"],
            takes=int(item["takes"]["N"]),
            trial=trial,
        )
