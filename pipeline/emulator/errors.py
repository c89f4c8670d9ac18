"""What AWS answers when it does not do what was asked.

AwsError
├── BadRequest            HTTP 400: the caller must change something, or wait
│     ResourceNotFoundException, ResourceInUseException, InvalidArgumentException, ValidationException,
│     LimitExceededException, ProvisionedThroughputExceededException, ExpiredIteratorException, ...
└── InternalFailure       HTTP 500: the service failed; whether the call took effect is not known

Rules
- The code is the whole identity of an error: clients match on it, so it is written exactly as AWS writes it.
- Throttling is HTTP 400 in the JSON 1.1 protocol, never 429.
Source: Kinesis API Reference, "Common Error Types" and the "Errors" section of each action.
"""

from __future__ import annotations


class AwsError(Exception):
    """An answer of the service that is not a success: `code` as AWS spells it, `status` of HTTP."""

    status = 400

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class BadRequest(AwsError):
    """HTTP 400: the same call would fail again, or must wait."""


class InternalFailure(AwsError):
    """HTTP 500: the caller cannot know whether the call took effect."""

    status = 500

    def __init__(self, message: str = "The request processing has failed because of an unknown error.") -> None:
        super().__init__("InternalFailure", message)


def not_found(message: str) -> BadRequest:
    return BadRequest("ResourceNotFoundException", message)


def in_use(message: str) -> BadRequest:
    return BadRequest("ResourceInUseException", message)


def invalid(message: str) -> BadRequest:
    return BadRequest("InvalidArgumentException", message)


def validation(message: str) -> BadRequest:
    return BadRequest("ValidationException", message)


def limit_exceeded(message: str) -> BadRequest:
    return BadRequest("LimitExceededException", message)


def throttled(message: str) -> BadRequest:
    return BadRequest("ProvisionedThroughputExceededException", message)
