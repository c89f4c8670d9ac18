"""The backup that Firehose keeps of `web-events` and `events`: read, verified, searched, and played again.

objects.py   the port to the bucket; S3 and memory
gzip.py      pure: the bytes of a compressed object, as far as they can be had
reader.py    what is in the backup: objects, frames, batches, damage, places of an event
cursor.py    pure: what of the backup the auditor has read, and where it looks next
auditor.py   the process that reads each new object once, as soon as it is there
replay.py    from the backup into a stream again
commands.py  `spillway backup ls|verify|cat`, `spillway replay`
"""
