"""Digests of which events each hop saw, so that hops can be subtracted from each other.

identity.py   which event, as 64 bits and a name, a column at a time
table.py      the invertible Bloom look-up table: adds, subtracts, decodes to the events that differ
tally.py      the digests of one process, by tenant, door and accept-time window
segment.py    a digest on its way: bytes, with a check
recorder.py   a process's own digests, written out of band to `ledger/` in the bucket
"""
