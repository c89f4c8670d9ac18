"""Arithmetic of spans of time: what lies in them, what between them, since when."""

import numpy as np
import numpy.typing as npt

from alerts.proof.series import Floats

Bools = npt.NDArray[np.bool_]
# Begin and end, which is no longer in it.
Spans = list[tuple[float, float]]


def within(at: Floats, spans: Spans) -> Bools:
    inside = np.zeros(len(at), dtype=bool)
    for begins, ends in spans:
        inside |= (at >= begins) & (at < ends)
    return inside


def complement(spans: Spans) -> Spans:
    """When it is none of these."""
    free, after = [], -np.inf
    for begins, ends in sorted(spans):
        if begins > after:
            free.append((after, begins))
        after = max(after, ends)
    return [*free, (after, np.inf)]


def stuck_since(at: Floats, spans: Spans) -> Floats:
    """Since when a hop takes nothing, where it takes nothing; else infinity."""
    since = np.full(len(at), np.inf)
    for begins, ends in spans:
        inside = (at >= begins) & (at < ends)
        since[inside] = np.minimum(since[inside], begins)
    return since
