"""A whole store in this process, on free ports, and a client that speaks to it over HTTP."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from telemetry import log as logs
from telemetry.metrics import STORE_ITEMS, Metrics
from telemetry.store.rows import Request
from telemetry.store.service import Store
from telemetry.store.settings import StoreSettings

PROTOBUF, JSON = "application/x-protobuf", "application/json"


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Running:
    def __init__(self, store: Store, metrics: Metrics, session: aiohttp.ClientSession) -> None:
        self.store, self.metrics, self._session = store, metrics, session
        self.url = f"http://127.0.0.1:{store.http_port}"
        self.grpc_target = f"127.0.0.1:{store.grpc_port}"

    async def get(self, path: str, accept: str = JSON, **asked: str | int) -> Answer:
        query = f"?{urlencode(asked)}" if asked else ""
        # As it is written: aiohttp would escape what is escaped already.
        async with self._session.get(URL(self.url + path + query, encoded=True), headers={"accept": accept}) as answer:
            return Answer(answer.status, await answer.read(), answer.headers)

    async def post(self, path: str, body: bytes, content_type: str = PROTOBUF, encoding: str = "") -> Answer:
        headers = {"content-type": content_type, **({"content-encoding": encoding} if encoding else {})}
        # aiohttp would pack the body itself, if it were told by the header alone.
        async with self._session.post(self.url + path, data=body, headers=headers, skip_auto_headers=("content-type",)) as answer:
            return Answer(answer.status, await answer.read(), answer.headers)

    async def take(self, request: Request, path: str = "/v1/traces") -> None:
        answer = await self.post(path, request.SerializeToString())
        assert (200, b"") == (answer.status, answer.body)

    def items(self, signal: str, outcome: str) -> float:
        return self.metrics.value(STORE_ITEMS, signal=signal, outcome=outcome)


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Running]:
    metrics = Metrics()
    store = Store(StoreSettings(folder, grpc_port=0, http_port=0, **settings), metrics, logs.configure("store"))
    await store.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            yield Running(store, metrics, session)
    finally:
        await store.stop()
