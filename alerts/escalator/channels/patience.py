"""A limit to how long a message may take as a whole, whatever its channel does.

Limits of connections are for each read: an answer that comes a byte at a time keeps within them for ever, and with a few such
answers nothing else would be sent by that channel. Who takes longer is left alone, and the message is tried again: whether it
arrived is not known, and its key tells the other side that it is the same.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from alerts.escalator.channels.http import Sent

# Beyond what a slow but honest other side takes: a mail server may greet late, and is asked some ten times. Who is left alone too
# soon takes the message all the same, and each time that it is tried again.
SEND_SECONDS_MAX = 60.0
# Each holds a thread and a connection.
HANGING_MAX = 50


class Patience:
    """Of one channel. Any thread may use it."""

    def __init__(self, seconds_max: float = SEND_SECONDS_MAX, hanging_max: int = HANGING_MAX) -> None:
        self._seconds_max, self._hanging_max = seconds_max, hanging_max
        self._lock = threading.Lock()
        self._hanging = 0

    def send(self, call: Callable[[], Sent]) -> Sent:
        """What `call` returns; an exception of its own as "retry"."""
        if self._hanging >= self._hanging_max:
            return Sent("retry", f"{self._hanging} earlier messages still have no whole answer: not tried")
        said: SimpleQueue[Sent] = SimpleQueue()
        with self._lock:
            self._hanging += 1
        try:
            threading.Thread(target=self._call, args=(call, said), daemon=True).start()
        except RuntimeError as exc:  # as many threads as may be
            self._ended()
            return Sent("retry", str(exc))
        try:
            return said.get(timeout=self._seconds_max)
        except Empty:
            return Sent("retry", f"no whole answer within {self._seconds_max:g} s")

    def _call(self, call: Callable[[], Sent], said: "SimpleQueue[Sent]") -> None:
        try:
            sent = call()
        except Exception as exc:  # noqa: BLE001 - a channel's bug must not stop its pages
            sent = Sent("retry", f"{type(exc).__name__}: {exc}"[:300])
        self._ended()
        said.put(sent)

    def _ended(self) -> None:
        with self._lock:
            self._hanging -= 1
