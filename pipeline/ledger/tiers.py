"""The tiers: places at which a hop says which events it saw. Each is named by its hop, as `telemetry.hops` names it."""

# What a door confirmed to be in the stream; and what it had to leave open (an answer that never came, a deadline), or wrote again
# and so may be there more than once.
HTTP_ACKNOWLEDGED, HTTP_UNCERTAIN = "http-door:acknowledged", "http-door:uncertain"
GRPC_ACKNOWLEDGED, GRPC_UNCERTAIN = "grpc-door:acknowledged", "grpc-door:uncertain"
TRANSCODER_READ = "transcoder:read"
REDACTOR_READ, REDACTOR_CLEAN = "redactor:read", "redactor:clean"
BACKUP_WEB, BACKUP_EVENTS = "backup/web-events:read", "backup:read"

ACKNOWLEDGED = {"http": HTTP_ACKNOWLEDGED, "grpc": GRPC_ACKNOWLEDGED}
UNCERTAIN = {"http": HTTP_UNCERTAIN, "grpc": GRPC_UNCERTAIN}
# By the part of the process that reports them.
OF_PART = {
    "http": (HTTP_ACKNOWLEDGED, HTTP_UNCERTAIN),
    "grpc": (GRPC_ACKNOWLEDGED, GRPC_UNCERTAIN),
    "transcoder": (TRANSCODER_READ,),
    "redactor": (REDACTOR_READ, REDACTOR_CLEAN),
    "auditor": (BACKUP_WEB, BACKUP_EVENTS),
}
