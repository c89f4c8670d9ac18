"""Who does the ledger's arithmetic on the hot path: C (`_fold.c`) where it was built, else numpy. Both come to the same bits.

Numpy is the reference, and what runs where there was no compiler at installation; it costs several times as much (README.md).
`SPILLWAY_LEDGER_NATIVE=off` is the switch, for emergencies. It is read when a process begins, for all of it.
"""

import importlib
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

_Words = npt.NDArray[np.uint64]

SWITCH = "SPILLWAY_LEDGER_NATIVE"
is_off = os.environ.get(SWITCH, "on").lower() in ("off", "0", "no", "false")


class Code(Protocol):
    def fold(self, events: Sequence[bytes], rows: _Words, start: int, /) -> list[int]:
        """A list or tuple of events become the rows from `start` on, of key, content and name; the positions of those that do not
        begin as they should, whose rows have their content alone.

        Raises: TypeError, ValueError: of what is given. Rows behind `start` may have been written over.
        """

    def fold_batch(self, batch: bytes | memoryview, rows: _Words, start: int, /) -> tuple[int, list[tuple[int, bytes]]]:
        """The same of the events of an encoded batch, where they lie: how many they are, and (position, event) of the odd ones.

        -1: it has to be parsed; nothing was done. More than there are rows: nothing was done.

        Raises: TypeError, ValueError: of what is given.
        """

    def add(self, cells: _Words, keys: _Words, contents: _Words, names: _Words, /) -> None:
        """Add elements to a table's cells, in place.

        Raises: TypeError, ValueError: of what is given, before anything is added.
        """


def loaded() -> tuple[Code | None, str]:
    """None: numpy; and which of them in words."""
    if is_off:
        return None, f"numpy, by {SWITCH}"
    try:
        return importlib.import_module("pipeline.ledger._fold"), "native"
    except ModuleNotFoundError:
        return None, "numpy: the C part is not built"
    except ImportError as exc:
        return None, f"numpy: the C part can't be loaded: {exc}"


# What runs. Tests and the bench set it.
code, runs = loaded()
