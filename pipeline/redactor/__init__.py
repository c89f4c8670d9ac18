"""From `events` to `events-clean`: the only way to the exits leads through here.

clean.py      pure: one batch in, clean records and refusals out
worker.py     the processor: redact, write, dead letters
__main__.py   the process
"""
