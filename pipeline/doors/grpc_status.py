"""A request that is not taken, as a gRPC status: the one place where our reasons become codes.

Details ride in `grpc-status-details-bin` as google.rpc.Status: ErrorInfo with the reason word, and RetryInfo where waiting helps.
"""

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from pipeline.doors.collect import NotTaken, Problem
from pipeline.doors.reasons import Reason
from pipeline.gen.spillway.v1 import collector_pb2

DOMAIN = "spillway"
DETAILS_KEY = "grpc-status-details-bin"
_CODES = {
    Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.DRAINING: grpc.StatusCode.UNAVAILABLE,
}


def code_of(reason: Reason) -> grpc.StatusCode:
    return _CODES.get(reason, grpc.StatusCode.INVALID_ARGUMENT)


def details_of(problem: NotTaken) -> bytes:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=problem.reason.upper(), domain=DOMAIN)]
    if problem.retry_after_seconds is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=seconds(problem.retry_after_seconds)))
    status = status_pb2.Status(code=code_of(problem.reason).value[0], message=str(problem))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return bytes(status.SerializeToString())


def rejection(problem: Problem) -> collector_pb2.Rejection:
    after = problem.retry_after_seconds
    return collector_pb2.Rejection(
        index=problem.index,
        status=problem.status,  # type: ignore[arg-type]
        reason=problem.reason,
        message=problem.message,
        retry_after=None if after is None else seconds(after),
    )


def seconds(value: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(value * 1e9))
    return duration
