"""The demo's real input: flights out of New York City in 2013, as events."""
