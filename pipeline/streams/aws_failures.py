"""What AWS does not do for us, counted in one place for all clients, and how far our clock is from AWS's.

    client = failures.watched(boto3.client("s3", ...))     every answer of this client, by botocore's own events
    failures.note("kinesis", code, status)                 for who speaks HTTP itself

Rules. Kinds are few, and each has a remedy of its own: `denied` (a policy, a grant, a disabled key, expired credentials),
`throttled`, `unavailable` (broken, or not reached), `clock` (a signature that is too old or too new). Any other 4xx is an answer
that the adapter deals with (no such key, a condition that failed) and not counted. What botocore tries again by itself counts
once, when it gives up. The clock is compared with the Date of each answer, which is to the second.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar

from telemetry.metrics import AWS_CLOCK_SKEW_SECONDS, AWS_FAILURES, Metrics

Kind = Literal["denied", "throttled", "unavailable", "clock"]
KINDS: tuple[Kind, ...] = ("denied", "throttled", "unavailable", "clock")
C = TypeVar("C")

# Source: "Common Errors" of the API References of S3, DynamoDB, Kinesis and KMS.
DENIED = frozenset(
    (
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "UnauthorizedOperation",
        "NotAuthorized",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        # As S3 says it of an object under a key.
        "KMS.DisabledException",
        "KMS.KMSInvalidStateException",
        "KMS.NotFoundException",
        "DisabledException",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    )
)
THROTTLED = frozenset(
    (
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "KMSThrottlingException",
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "SlowDown",
    )
)
CLOCK = frozenset(("RequestTimeTooSkewed", "RequestExpired"))


def kind_of(code: str, status: int, message: str = "") -> Kind | None:
    """Which kind of failure an answer is; None: it is none."""
    if code in CLOCK or ("ignature expired" in message or "ignature not yet current" in message):
        return "clock"
    if code in DENIED or status in (401, 403):
        return "denied"
    if code in THROTTLED or status == 429:
        return "throttled"
    return "unavailable" if status >= 500 else None


class AwsFailures:
    """`services` are those that this process calls: each is there from the start, as zero."""

    def __init__(self, metrics: Metrics, services: Iterable[str], now_seconds: Callable[[], float] = time.time) -> None:
        self._now = now_seconds
        self._counters: Mapping[str, Mapping[Kind, Any]] = {
            service: {kind: metrics.counter(AWS_FAILURES, service=service, kind=kind) for kind in KINDS} for service in services
        }
        self._skew = metrics.gauge(AWS_CLOCK_SKEW_SECONDS)

    def note(self, service: str, code: str, status: int, message: str = "") -> None:
        kind = kind_of(code, status, message)
        if kind is not None:
            self._counters[service][kind].inc()

    def watched(self, client: C) -> C:
        """The client; from now on its failures count.

        Raises:
            KeyError: its service is not one of those that were named.
        """
        events = client.meta.events  # type: ignore[attr-defined]  # every boto3 client has it
        service = client.meta.service_model.service_name  # type: ignore[attr-defined]
        counters = self._counters[service]

        def answered(http_response: Any, parsed: Mapping[str, Any], **_: object) -> None:
            self._compare_clocks(http_response)
            if http_response.status_code >= 300:
                error = parsed.get("Error", {})
                self.note(service, str(error.get("Code", "")), http_response.status_code, str(error.get("Message", "")))

        def failed(**_: object) -> None:
            counters["unavailable"].inc()

        events.register("after-call", answered)
        events.register("after-call-error", failed)
        return client

    def _compare_clocks(self, http_response: Any) -> None:
        try:
            theirs = parsedate_to_datetime(http_response.headers["date"]).timestamp()
        except (KeyError, TypeError, ValueError):
            return
        # Their seconds are cut off: half a second is the middle of what they can mean.
        self._skew.set(self._now() - theirs - 0.5)
