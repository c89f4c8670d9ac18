"""What Python's garbage collector need not look through."""

import gc


def spare_what_stays() -> None:
    """Have it pass over what a process has made to start: looking through that took a door 50 ms at a time, and every request
    under way waited. Call it when all is made and nothing is served."""
    gc.collect()
    gc.freeze()
