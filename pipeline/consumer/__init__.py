"""The one consumer that every worker shares: reads a stream by enhanced fan-out, and loses nothing while doing so.

stream.py        the port to a stream: shards, deliveries               kinesis.py   it, over HTTP
lease.py         the port to leases and checkpoints, and their twin     dynamodb.py  it, in DynamoDB
plan.py          pure: which shards are readable, which leases to take, when to subscribe again
trials.py        pure: what to try next after a failure, and when a record is poison
subscription.py  deliveries without an end: renewal, silence, ResourceInUse
reader.py        one shard: deliver, then checkpoint
worker.py        one process: leases, readers, draining
memory.py        a stream in memory, under a simulated clock
run.py           what every worker process does around it: settings, signals, health
"""
