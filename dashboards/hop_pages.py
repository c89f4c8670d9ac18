"""One page per hop: its four golden signals, then the metrics that only this hop has.

To give a hop a detail panel, add it to the function of its kind below; a hop without one still has a page.
"""

from collections.abc import Callable

from dashboards.page import WORKER, Ask, Page, Panel, Query, Row, hop_uid
from dashboards.signals import ORDER, signal_panel
from telemetry import metrics as m
from telemetry.hops import BY_NAME, EXITS, HOPS, Hop

ask = Ask(WORKER)


def hop_page(hop: Hop) -> Page:
    golden = Row("Golden signals", tuple(signal_panel(hop, kind) for kind in ORDER))
    details = _details(hop)
    after = f" After {' and '.join(BY_NAME[name].title for name in hop.after)}." if hop.after else ""
    return Page(
        uid=hop_uid(hop.name),
        title=f"Hop: {hop.title}",
        description=f"Takes {hop.takes}; gives {hop.gives}.{after}",
        rows=(golden, Row("Details", details)) if details else (golden,),
        hop=hop.name,
        workers_of=_WORKERS_OF[hop.name].name,
    )


def _details(hop: Hop) -> tuple[Panel, ...]:
    return _DETAILS[hop.name](hop) if hop.name in _DETAILS else ()


def _sdk(hop: Hop) -> tuple[Panel, ...]:
    return (
        Panel(
            "Final answers by outcome",
            "eps",
            "What the collector's last word on each event was. Only `accepted` is stored.",
            "Rejected: the producer sends what the schema does not allow, see the door's reasons. Lost or expired: the "
            "collector was away for longer than the spool or the deadline lasts.",
            (Query(ask.rate(m.SDK_EVENTS.name, "outcome"), "{{outcome}}"),),
            hop=hop.name,
        ),
        Panel(
            "Events without a final answer",
            "short",
            "Events that the producer holds: in the buffer, in the spool, or on their way.",
            "If it grows steadily the collector answers too slowly or not at all: look at the gRPC door.",
            (Query(ask.now("sum", m.SDK_PENDING_EVENTS.name, "worker"), "{{worker}}"),),
            hop=hop.name,
        ),
        Panel(
            "Buffer and its limit",
            "bytes",
            "Bytes in the spool (or in memory), and where `send` begins to wait or to refuse.",
            "Near the limit the producer is about to be slowed down: mend the door first, then let the spool drain by itself.",
            (
                Query(ask.now("max", m.SDK_BUFFER_BYTES.name, "worker"), "{{worker}}"),
                Query(ask.now("min", m.SDK_BUFFER_LIMIT_BYTES.name), "limit"),
            ),
            hop=hop.name,
        ),
    )


def _door(hop: Hop) -> tuple[Panel, ...]:
    door = hop.process
    return (
        Panel(
            "Answers by status",
            "eps",
            "Accepted: it is in Kinesis. Queued: fire-and-forget. Rejected: never send it again. Retry: send it again, same id.",
            "Many `retry`: look at bytes in flight and at Kinesis writes. Many `rejected`: a producer has changed.",
            (Query(ask.rate(m.DOOR_EVENTS.name, "status", door=door), "{{status}}"),),
            hop=hop.name,
        ),
        Panel(
            "Refused, by reason",
            "eps",
            "Why events were not taken, by the reason word that the producer was told.",
            "Schema reasons (unknown_type, rule, ...): tell the producer's owner. overloaded, throttled, unavailable: it is us.",
            (Query(ask.rate(m.DOOR_REJECTIONS.name, "reason", door=door), "{{reason}}"),),
            hop=hop.name,
        ),
        Panel(
            "Fire-and-forget events lost",
            "eps",
            "Events that were answered `queued` and could not be written. The producer accepted this risk, but it should be 0.",
            "Look at Kinesis writes: throttled shards or an endpoint that is away.",
            (Query(ask.rate(m.DOOR_LOST_EVENTS.name, door=door), "lost"),),
            limit=0.1,
            hop=hop.name,
        ),
        Panel(
            "Oldest event not yet written",
            "s",
            "How long the event at the head of the queue has waited for Kinesis.",
            "Rising: Kinesis answers slowly or throttles, see its page.",
            (Query(ask.now("max", m.DOOR_QUEUE_AGE_SECONDS.name, "worker", door=door), "{{worker}}"),),
            limit=2.0,
            hop=hop.name,
        ),
        Panel(
            "Bytes in flight and their limit",
            "bytes",
            "Bytes taken in and not yet answered. At the limit the door answers RESOURCE_EXHAUSTED or 429.",
            "One worker full and others not: the balance between workers is off. All full: Kinesis is slow, or load is too high.",
            (
                Query(ask.now("sum", m.DOOR_IN_FLIGHT_BYTES.name, "worker", door=door), "{{worker}}"),
                Query(ask.now("min", m.DOOR_IN_FLIGHT_LIMIT_BYTES.name, door=door), "limit of one worker"),
            ),
            hop=hop.name,
        ),
        Panel(
            "Keys file readable",
            "short",
            "1: the file of API keys could be read. 0: the last good one is in force, so new and revoked keys are not seen.",
            "Check the keys file: its syntax and its permissions. The door says in its log what it could not read.",
            (Query(ask.now("min", m.DOOR_KEYS_USABLE.name, "worker", door=door), "{{worker}}"),),
            limit=1.0,
            falling=True,
            hop=hop.name,
        ),
        Panel(
            "Stored events by tenant",
            "eps",
            "Who sends how much. A tenant that falls silent looks healthy everywhere else.",
            "A sudden fall: ask that tenant. A sudden rise: is it a retry storm (see statuses) or a launch?",
            (Query(ask.rate(m.DOOR_TENANT_EVENTS.name, "tenant", door=door), "{{tenant}}"),),
            hop=hop.name,
        ),
        Panel(
            "Stored events by type",
            "eps",
            "Which event types arrive here.",
            "One type gone while others go on: that producer's release is the first suspect.",
            (Query(ask.rate(m.DOOR_TENANT_EVENTS.name, "type", door=door), "{{type}}"),),
            hop=hop.name,
        ),
    )


def _worker(hop: Hop) -> tuple[Panel, ...]:
    part = hop.name
    panels = (
        Panel(
            "Events by what became of them",
            "eps",
            "Delivered to the next hop, or written to the dead letters with their reason.",
            "Dead letters: see the reasons beside; `spillway dlq` shows the events themselves.",
            (Query(ask.rate(m.CONSUMER_EVENTS.name, "outcome", part=part), "{{outcome}}"),),
            hop=part,
        ),
        Panel(
            "Dead letters by reason",
            "eps",
            "Why events could not go on. They are kept whole.",
            "One reason that jumps is one cause: read one of them, mend the cause, then replay.",
            (Query(f"{ask.rate(m.DEAD_LETTERS.name, 'reason', stage=part)} or {_idle(part, 'reason')}", "{{reason}}"),),
            limit=0.1,
            hop=part,
        ),
        Panel(
            "Failures that stopped a shard",
            "cps",
            "By kind: downstream (the next hop refused), lost (another worker took the lease), subscription_lost, and so on.",
            "A few `lost` at a deployment are normal. Steady failures: open the logs of this worker.",
            (Query(f"{ask.rate(m.CONSUMER_FAILURES.name, 'kind', part=part)} or {_idle(part, 'kind')}", "{{kind}}"),),
            limit=0.1,
            hop=part,
        ),
        Panel(
            "Behind the tip, by shard",
            "s",
            "Iterator age: how much older than the newest record the last processed one is.",
            "One shard only: a hot key or a stuck lease. All shards: this hop is slower than what comes in, add workers.",
            (Query(ask.now("max", m.CONSUMER_BEHIND_SECONDS.name, "shard", part=part), "{{shard}}"),),
            limit=hop.saturation.limit,
            hop=part,
        ),
        Panel(
            "Since the last finished delivery, by shard",
            "s",
            "Idle shards finish one every 5 s; a higher value means that nobody works on the shard, or somebody is stuck.",
            "Above a minute: see who holds the lease (logs), and restart that worker.",
            (Query(f"time() - {ask.now('max', m.CONSUMER_PROGRESS.name, 'shard', part=part)}", "{{shard}}"),),
            limit=60.0,
            hop=part,
        ),
        Panel(
            "Waited in the stream",
            "s",
            "How long records lay in the stream before this hop took them.",
            "Rising with a steady processing time: this hop does not keep up. See capacity and trends.",
            _quantiles(m.CONSUMER_WAIT_SECONDS.name, part=part),
            hop=part,
        ),
        Panel(
            "Records checkpointed",
            "suffix: rec/s",
            "Records of the stream that are done for good, by worker.",
            "A worker at 0 while the others work: it holds no shard, or hangs.",
            (Query(ask.rate(m.CONSUMER_RECORDS.name, "worker", part=part), "{{worker}}"),),
            hop=part,
        ),
    )
    return panels if part != "redactor" else (*panels, _redacted(part), _rules(part))


def _redacted(hop: str) -> Panel:
    return Panel(
        "Fields changed, by action",
        "cps",
        "What the redactor did to personal data: drop, mask, pseudonymise, generalise.",
        "A fall to 0 while events pass: the policy no longer finds what it should. Stop the exits and look at it.",
        (Query(f"{ask.rate(m.REDACTED_FIELDS.name, 'action')} or {_idle(hop, 'action')}", "{{action}}"),),
        hop=hop,
    )


def _rules(hop: str) -> Panel:
    return Panel(
        "Rules of the policy, by action",
        "short",
        "Fields of all deployed event types that the loaded policy changes.",
        "A fall after a deployment: a rule was removed. Unless that was meant, go back to the release before.",
        (Query(ask.now("min", m.REDACTION_RULES.name, "action"), "{{action}}"),),
        hop=hop,
    )


def _kinesis(hop: Hop) -> tuple[Panel, ...]:
    records, size = m.KINESIS_SHARD_RECORDS.name, m.KINESIS_WRITE_BYTES.name
    return (
        Panel(
            "Records by stream and outcome",
            "suffix: rec/s",
            "Each attempt at a record: written, throttled (the shard is full) or failed.",
            "Throttled: split the hottest shard. Failed: is the endpoint there, are the credentials good?",
            (Query(ask.rate(m.KINESIS_WRITE_RECORDS.name, "stream, outcome"), "{{stream}} {{outcome}}"),),
            hop=hop.name,
        ),
        Panel(
            "Records refused one by one, by stream",
            "suffix: rec/s",
            "Records that failed in calls which Kinesis answered with 200. They are sent again, only they.",
            "Mostly throttled shards: see use of shards. Internal failures: AWS's own, they pass.",
            (Query(ask.rate(m.KINESIS_WRITE_ENTRY_FAILURES.name, "stream"), "{{stream}}"),),
            limit=0.1,
            hop=hop.name,
        ),
        Panel(
            "One PutRecords, 99th percentile by stream",
            "s",
            "How long Kinesis takes to confirm a call.",
            "Slow for one stream: its shards are full. Slow for all: Kinesis or the way to it.",
            (Query(ask.quantile(0.99, m.KINESIS_WRITE_SECONDS.name, "stream"), "{{stream}}", exemplars=True),),
            limit=hop.latency.limit,
            hop=hop.name,
        ),
        Panel(
            "Bytes written, by shard",
            "binBps",
            "A shard takes 1 MiB a second. Shards of one stream should carry the same.",
            "One shard far above its siblings: a hot partition key. Split that shard, or spread that key.",
            (Query(ask.rate(size, "stream, shard"), "{{stream}} {{shard}}"),),
            limit=1048576.0,
            hop=hop.name,
        ),
        Panel(
            "Records written, by shard",
            "suffix: rec/s",
            "A shard takes 1,000 records a second. A record of ours holds many events.",
            "Near the limit with few bytes: batches are too small, look at the producers.",
            (Query(ask.rate(records, "stream, shard"), "{{stream}} {{shard}}"),),
            limit=1000.0,
            hop=hop.name,
        ),
        Panel(
            "Bytes in a record",
            "bytes",
            "How well events are joined into records. Small records cost more: Firehose bills at least 5 KB each.",
            "Falling: producers send single events, or the doors' linger is too short.",
            (
                Query(
                    f"{ask.rate(size, 'stream')} / ({ask.rate(records, 'stream')} > 0) or {ask.rate(size, 'stream')} * 0",
                    "{{stream}}",
                ),
            ),
            hop=hop.name,
        ),
    )


def _backup(hop: Hop) -> tuple[Panel, ...]:
    return (
        Panel(
            "Objects found whole",
            "cps",
            "Backup objects that the auditor has read to the end and found whole.",
            "None for ten minutes under load: Firehose has stopped delivering; events still lie in the stream for a day.",
            (Query(ask.rate(m.BACKUP_OBJECTS.name, "stream"), "{{stream}}"),),
            hop=hop.name,
        ),
        Panel(
            "Since the newest object, by stream",
            "s",
            "How long ago Firehose put an object. While events come, this stays below Firehose's buffer time.",
            "Rising while events come: Firehose can't deliver. See its error log, the bucket's policy and the KMS key.",
            (Query(f"time() - {ask.now('max', m.BACKUP_NEWEST.name, 'stream')}", "{{stream}}"),),
            hop=hop.name,
        ),
        Panel(
            "Events found in the backup",
            "eps",
            "Should follow what the doors accept, later by Firehose's buffer time.",
            "Lower than what the doors accept for long: compare the ledger's windows.",
            (Query(ask.rate(m.BACKUP_EVENTS.name, "stream"), "{{stream}}"),),
            hop=hop.name,
        ),
        Panel(
            "Damaged places",
            "cps",
            "Frames whose checksum or length is wrong. One is one too many: the backup is the last copy.",
            "Page the owner of the bucket; the auditor's log names object and offset. Rebuild the range from the stream.",
            (Query(ask.rate(m.BACKUP_DAMAGE.name, "stream"), "{{stream}}"),),
            limit=0.001,
            hop=hop.name,
        ),
        Panel(
            "Accepted to backed up",
            "s",
            "How much would be missing if the stream were gone now: the recovery point.",
            "Above Firehose's buffer time (5 minutes) and rising: look at Firehose and at the bucket's permissions.",
            (
                Query(ask.quantile(0.99, m.BACKUP_FRESHNESS_SECONDS.name, "stream"), "{{stream}} p99", exemplars=True),
                Query(ask.quantile(0.5, m.BACKUP_FRESHNESS_SECONDS.name, "stream"), "{{stream}} p50"),
            ),
            limit=hop.latency.limit,
            hop=hop.name,
        ),
        Panel(
            "Oldest object that nobody has read",
            "s",
            "How far the auditor is behind; what it has not read is not known to be good.",
            "Rising: the auditor hangs or the bucket is slow. Events are not in danger by this alone.",
            (Query(ask.now("max", m.BACKUP_BEHIND_SECONDS.name, "stream"), "{{stream}}"),),
            limit=hop.saturation.limit,
            hop=hop.name,
        ),
        Panel(
            "Rounds of the auditor that failed",
            "cps",
            "The auditor could not list or read the bucket.",
            "Check the bucket's endpoint and the auditor's credentials.",
            (Query(ask.rate(m.BACKUP_AUDIT_FAILURES.name), "failed rounds"),),
            limit=0.001,
            hop=hop.name,
        ),
    )


def _exit(hop: Hop) -> tuple[Panel, ...]:
    name = hop.name
    return (
        *(_lake_table() if name == "lake" else ()),
        Panel(
            "Rows by outcome",
            "eps",
            "Loaded: new. Duplicate: was there already, as after a retry. Conflict or dead: went to the dead letters.",
            "Conflicts: the same id with another content, ask the producer. Many duplicates: somebody replays or retries.",
            (Query(ask.rate(m.ETL_ROWS.name, "outcome", exit=name), "{{outcome}}"),),
            hop=name,
        ),
        Panel(
            "Freshness",
            "s",
            "From the door's accept time to being visible here. This is what readers of the exit feel.",
            "Compare with how long a micro-batch takes: if batches are quick, the wait is before Spark.",
            _quantiles(m.ETL_FRESHNESS_SECONDS.name, exit=name),
            limit=hop.latency.limit,
            hop=name,
        ),
        Panel(
            "One micro-batch",
            "s",
            "From reading the stream to the commit at this exit.",
            "Slow batches with few rows: the exit is slow (locks, small files). With many rows: it is catching up.",
            _quantiles(m.ETL_BATCH_SECONDS.name, exit=name),
            hop=name,
        ),
        Panel(
            "Failed micro-batches",
            "cps",
            "A failed batch is repeated whole, nothing is lost, but freshness suffers.",
            "Steady failures stop this exit: open the ETL's log at this time.",
            (Query(ask.rate(m.ETL_FAILURES.name, exit=name), "failed"),),
            limit=0.01,
            hop=name,
        ),
        Panel(
            "Records that come, and that Spark can take",
            "suffix: rec/s",
            "As long as the second is above the first, the exit keeps up.",
            "Lines that touch: give Spark more cores or take more per batch.",
            (
                Query(ask.now("sum", m.ETL_INPUT_RATE.name, exit=name), "come"),
                Query(ask.now("sum", m.ETL_PROCESSING_RATE.name, exit=name), "can be taken"),
            ),
            hop=name,
        ),
        Panel(
            "Since the last successful look at the stream",
            "s",
            "The exit looks every few seconds even if nothing comes.",
            "Above a minute: this query hangs or is dead. Restart the ETL; it goes on where it was.",
            (Query(f"time() - {ask.now('max', m.ETL_LAST_BATCH.name, exit=name)}", name),),
            limit=60.0,
            hop=name,
        ),
    )


def _lake_table() -> tuple[Panel, ...]:
    return (
        Panel(
            "Batches that the table did not take",
            "cps",
            "Files were written and not committed, so nobody sees them; or a column would have had to change its type.",
            "not_registered: is the bucket there, who else commits? schema: take the change back, and add a new field instead.",
            (Query(ask.rate(m.LAKE_REFUSALS.name, "kind"), "{{kind}}"),),
            limit=0.01,
            hop="lake",
        ),
        Panel(
            "Small files in the fullest partition",
            "short",
            "Of the partitions that the last batch wrote to. The loader compacts as it goes; readers open every file.",
            "Rising for hours: compaction does not keep up. Run `spillway lake compact`, or take longer batches.",
            (Query(ask.now("max", m.LAKE_SMALL_FILES.name), "files"),),
            limit=100.0,
            hop="lake",
        ),
    )


def _telemetry(hop: Hop) -> tuple[Panel, ...]:
    return (
        Panel(
            "Arrived at the store, by outcome",
            "cps",
            "Stored, refused (the store was full or busy), or expired by age and size.",
            "Refused: the store's disk is full or it is flooded. Events are not in danger by this.",
            (Query(ask.rate(m.STORE_ITEMS.name, "signal, outcome"), "{{signal}} {{outcome}}"),),
            hop=hop.name,
        ),
        Panel(
            "Size of the store and its limit",
            "bytes",
            "At the limit the oldest traces go.",
            "If traces of yesterday are gone already, raise the limit or lower the sampled share.",
            (Query(ask.now("max", m.STORE_BYTES.name), "size"), Query(ask.now("max", m.STORE_LIMIT_BYTES.name), "limit")),
            hop=hop.name,
        ),
    )


def _idle(part: str, label: str) -> str:
    """A series "none" at 0 if the part reports at all: for counters that begin to exist with their first event."""
    return f'label_replace({ask.rate(m.CONSUMER_EVENTS.name, part=part)} * 0, "{label}", "none", "", "")'


def _quantiles(metric: str, **labels: str) -> tuple[Query, ...]:
    return (
        Query(ask.quantile(0.99, metric, **labels), "p99", exemplars=True),
        Query(ask.quantile(0.5, metric, **labels), "p50"),
    )


_DETAILS: dict[str, Callable[[Hop], tuple[Panel, ...]]] = {
    "sdk": _sdk,
    "http-door": _door,
    "transcoder": _worker,
    "grpc-door": _door,
    "kinesis": _kinesis,
    "redactor": _worker,
    "backup": _backup,
    **dict.fromkeys(EXITS, _exit),
    "telemetry": _telemetry,
}
_WORKERS_OF = {
    "sdk": m.SDK_EVENTS,
    "http-door": m.DOOR_EVENTS,
    "transcoder": m.CONSUMER_EVENTS,
    "grpc-door": m.DOOR_EVENTS,
    "kinesis": m.KINESIS_WRITE_RECORDS,
    "redactor": m.CONSUMER_EVENTS,
    "backup": m.BACKUP_OBJECTS,
    **dict.fromkeys(EXITS, m.ETL_ROWS),
    "telemetry": m.STORE_ITEMS,
}


def pages() -> tuple[Page, ...]:
    return tuple(hop_page(hop) for hop in HOPS)
