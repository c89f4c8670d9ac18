"""Threads that may hang: one for each door and each exit, so that one that does not answer holds up nobody else.

Daemons, so that what hangs does not keep the process; each does one thing at a time, so what can pile up is bounded by one.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Workers(Protocol):
    def submit(self, name: str, work: Callable[[], T]) -> "Future[T]":
        """Do it in the thread of this name; its error is the future's."""
        ...


class Threads:
    def __init__(self) -> None:
        self._queues: dict[str, queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]] = {}

    def submit(self, name: str, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        if name not in self._queues:
            self._queues[name] = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(self._queues[name],), name=f"canary-{name}", daemon=True).start()
        self._queues[name].put((future, work))
        return future


class Inline:
    """Does it at once, for tests under a simulated clock."""

    def submit(self, name: str, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        _do(future, work)
        return future


def _serve(work: "queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]]") -> None:
    while True:
        _do(*work.get())


def _do(future: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except Exception as exc:  # noqa: BLE001 - whoever asked gets it; the thread must live
        future.set_exception(exc)
