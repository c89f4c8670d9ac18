"""Proof that the alerts are right, by real Prometheus over a simulated pipeline: what fires after how long, what never
does, and what says so when a series is gone.

    story.py ─► world.py ─► series.py ─► server.py ─► rulebook.py ─► detection.py · weeks.py · mutants.py · absence.py

Why so. Prometheus' rule engine evaluates each rule at instants, and `query_range` evaluates the same expression by the same
engine at many instants at once: a day in seconds, where `promtool test rules` takes minutes, and at any millisecond, where
promtool has a grid. What is left out then is done as Prometheus does it: a recording rule's answers are written back under its
name, and `for` is counted (rulebook.py). A test plays the same stories to both and compares the seconds of firing.
"""
