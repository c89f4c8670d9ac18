"""The model behind HTTP: one event loop, one log, answers in groups.

Rules
- Requests are worked off one after the other in the loop; their answers wait for one flush of the log together (group
  commit). With `--fsync always` they wait for one fdatasync, in a thread, while the next group gathers.
- If the log cannot be written, nobody gets an answer and the process ends: what is in memory is not to be trusted.
- Firehose's S3 puts and compression run in threads and never hold up Kinesis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from . import eventstream
from .delivery import Delivery, ObjectStore, Put, StoreFailed
from .door import Door, Reply, dumps, failure
from .errors import AwsError, BadRequest, InternalFailure
from .fanout import Subscription
from .http import Connection, Request
from .log import FileLog
from .state import Shard

LOG = logging.getLogger(__name__)
SWEEP_SECONDS = 5.0
IDLE_SECONDS_MAX = 600.0
DELIVERY_POLL_SECONDS = 0.1
DELIVERY_THREADS = 4
SILENCE_POLL_SECONDS = 0.1
CONNECTIONS_MAX = 2048
EVENT = "SubscribeToShardEvent"


class Server:
    """Holds the connections, the group commit, the subscriptions' pumps and Firehose's runners."""

    def __init__(self, door: Door, log: FileLog, store: ObjectStore, *, fsync: bool = False) -> None:
        self._door = door
        self._log = log
        self._store = store
        self._fsync = fsync
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(DELIVERY_THREADS, thread_name_prefix="firehose")
        self._sync_thread = ThreadPoolExecutor(1, thread_name_prefix="fsync")
        self._group: list[tuple[Connection, Request, Reply]] = []
        self._committing = False
        self._wakes: dict[int, set[asyncio.Event]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runners: dict[str, tuple[Delivery, asyncio.Task[None]]] = {}
        self._requests = 0
        self.connections: set[Connection] = set()
        self.monotonic: Callable[[], float] = time.monotonic
        self.failed: asyncio.Future[None] = self._loop.create_future()
        door.kinesis.listeners.append(self._wake)

    def request_id(self) -> str:
        self._requests += 1
        return f"{self._door.kinesis.random.getrandbits(96):024x}-{self._requests:08x}"

    # -- requests

    def serve(self, connection: Connection, request: Request) -> None:
        if len(self.connections) > CONNECTIONS_MAX:
            connection.reply(503, b"", keep_alive=False)
        elif request.path.startswith("/_model/"):
            self._control(connection, request)
        else:
            self._join_group(connection, request, self._answer(request))

    def _answer(self, request: Request) -> Reply:
        if "cbor" in request.content_type:
            message = "CBOR is not modelled: set AWS_CBOR_DISABLE=true or use a client that speaks JSON 1.1."
            return failure(BadRequest("SerializationException", message))
        try:
            return self._door.answer(request.target, request.body, signed=request.signed)
        except OSError as error:
            self._fail(error)
            return Reply(500, b"", lost=True)
        except Exception:
            LOG.exception("a call of %s failed: this is a bug of the model, or its log is damaged", request.target)
            return failure(InternalFailure())

    def _join_group(self, connection: Connection, request: Request, reply: Reply) -> None:
        self._group.append((connection, request, reply))
        if not self._committing:
            self._committing = True
            self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        if self.failed.done():
            return
        group, self._group = self._group, []
        try:
            self._log.flush()
        except OSError as error:
            self._fail(error)
            return
        if not self._fsync:
            self._committing = False
            self._send(group)
            return
        syncing = self._loop.run_in_executor(self._sync_thread, self._log.sync)
        syncing.add_done_callback(lambda done: self._synced(done, group))

    def _synced(self, done: asyncio.Future[None], group: list[tuple[Connection, Request, Reply]]) -> None:
        error = done.exception()
        if error is not None:
            self._fail(error)
            return
        self._send(group)
        if self._group:
            self._loop.call_soon(self._commit)
        else:
            self._committing = False

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _send(self, group: list[tuple[Connection, Request, Reply]]) -> None:
        for connection, request, reply in group:
            if reply.delay_ms:
                self._loop.call_later(reply.delay_ms / 1000, self._send_one, connection, request, reply)
            else:
                self._send_one(connection, request, reply)

    def _send_one(self, connection: Connection, request: Request, reply: Reply) -> None:
        if reply.lost:
            connection.break_off()
        elif reply.subscription is not None:
            self._start(self._pump(connection, request, reply.subscription))
        else:
            connection.reply(reply.status, reply.body, keep_alive=request.keep_alive)

    # -- subscriptions

    def _wake(self, shard: Shard) -> None:
        for event in self._wakes.get(id(shard), ()):
            event.set()

    async def _pump(self, connection: Connection, request: Request, subscription: Subscription) -> None:
        """Send a subscription's events until it is over or its client is gone."""
        woken = asyncio.Event()
        events = self._wakes.setdefault(id(subscription.shard), set())
        events.add(woken)
        now_ms = self._door.kinesis.now_ms
        try:
            connection.begin_stream()
            connection.stream(eventstream.message("event", "initial-response", b"{}"))
            while not connection.transport.is_closing():
                if self._door.faults.silent(subscription.stream.name):
                    await asyncio.sleep(SILENCE_POLL_SECONDS)
                    continue
                woken.clear()
                event = subscription.poll()
                if event is not None:
                    connection.stream(eventstream.message("event", EVENT, dumps(event)))
                elif not subscription.over:
                    wait_s = max(0.0, (subscription.due_ms() - now_ms()) / 1000)
                    await self._wait(woken, wait_s)
                if subscription.over:
                    break
                await self._wait(connection.drained, max(0.0, (subscription.ends_ms - now_ms()) / 1000))
            if subscription.taken_over:
                error = {"message": "Another subscription of this consumer to this shard has taken over."}
                connection.stream(eventstream.message("exception", "ResourceInUseException", dumps(error)))
            connection.end_stream(keep_alive=request.keep_alive)
        finally:
            subscription.over = True
            events.discard(woken)
            if not events:
                self._wakes.pop(id(subscription.shard), None)

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)

    # -- background

    def start(self) -> None:
        self._start(self._sweep())

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _sweep(self) -> None:
        """Retention, forgotten subscriptions, idle connections, and a runner for each Firehose stream."""
        last_s = 0.0
        while True:
            self._tend_runners()
            if self.monotonic() - last_s >= SWEEP_SECONDS:
                last_s = self.monotonic()
                self._door.kinesis.sweep()
                self._door.kinesis.subscriptions.forget_over()
                for connection in list(self.connections):
                    if not connection.busy and last_s - connection.used_s > IDLE_SECONDS_MAX:
                        connection.transport.close()
            await asyncio.sleep(DELIVERY_POLL_SECONDS)

    def _tend_runners(self) -> None:
        wanted = self._door.firehose.deliveries
        for name, (delivery, task) in list(self._runners.items()):
            if wanted.get(name) is not delivery:
                task.cancel()
                del self._runners[name]
        for name, delivery in wanted.items():
            if name not in self._runners:
                self._runners[name] = (delivery, self._start(self._deliver(delivery)))

    async def _deliver(self, delivery: Delivery) -> None:
        """Step one Firehose stream for as long as it is there; it may be deleted during a put."""
        deliveries = self._door.firehose.deliveries
        while deliveries.get(delivery.name) is delivery:
            put = delivery.step()
            if put is None:
                await asyncio.sleep(DELIVERY_POLL_SECONDS)
                continue

            size, error = await self._loop.run_in_executor(self._threads, self._put, put)
            if deliveries.get(delivery.name) is not delivery:
                return
            if error is None:
                delivery.succeeded(put, size)
                self._log.flush()
            else:
                delivery.failed(error)

    def _put(self, put: Put) -> tuple[int, str | None]:
        """The object's size, and what went wrong."""
        body = put.body()
        try:
            self._store.put(put.bucket, put.key, body)
        except StoreFailed as error:
            LOG.warning("Firehose could not put s3://%s/%s: %s", put.bucket, put.key, error)
            return len(body), str(error)[:300]
        return len(body), None

    async def stop(self) -> None:
        """End the pumps and runners, flush, close."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.connections):
            connection.transport.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._log.close()

    # -- the model's own surface

    def _control(self, connection: Connection, request: Request) -> None:
        status, answer = 200, b"{}"
        try:
            answer = self._model(request)
        except AwsError as error:
            status, answer = error.status, failure(error).body
        connection.reply(status, answer, keep_alive=request.keep_alive, content_type="application/json")

    def _model(self, request: Request) -> bytes:
        faults, kinesis = self._door.faults, self._door.kinesis
        match request.method, request.path.removeprefix("/_model/"):
            case "GET", "health":
                return b'{"status":"ok"}'
            case "GET", "metrics":
                deliveries = {name: one.metrics() for name, one in self._door.firehose.deliveries.items()}
                streams = {name: kinesis.measure(one) for name, one in kinesis.streams.items()}
                return orjson.dumps({"firehose": deliveries, "kinesis": streams, "requests": self._requests})
            case "GET", "faults":
                return orjson.dumps(faults.listed())
            case "POST", "faults":
                try:
                    wanted = orjson.loads(request.body)
                except orjson.JSONDecodeError as exc:
                    raise BadRequest("SerializationException", str(exc)) from exc
                faults.add(wanted)
                return orjson.dumps(faults.listed())
            case "DELETE", "faults":
                faults.heal()
                return b"[]"
        raise BadRequest("UnknownOperationException", f"{request.method} {request.path} is not part of the model.")
