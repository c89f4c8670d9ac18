"""The shape of a request, checked against the service model that botocore ships: AWS's own description of its API.

Rules
- Required members, types, lengths, ranges, patterns and enumerations are AWS's, and so are the two answers:
  SerializationException for a wrong type, ValidationException for a value outside its constraint.
- A blob is bytes here; the edge has decoded it. A timestamp is seconds since the epoch.
- PutRecords is not checked here member by member: its own code does that on the hot path.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from .errors import AwsError, BadRequest, validation

PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
    "double": (int, float),
    "float": (int, float),
    "timestamp": (int, float),
    "blob": (bytes,),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


@lru_cache(maxsize=4)
def _model(service: str) -> Any:
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


@lru_cache(maxsize=256)
def _input(service: str, operation: str) -> Any:
    model = _model(service)
    return model.operation_model(operation).input_shape if operation in model.operation_names else None


def known(service: str, operation: str) -> bool:
    """Whether AWS has such an operation at all."""
    return operation in _model(service).operation_names


def check(service: str, operation: str, request: dict[str, Any]) -> None:
    """Raises: AwsError where the request is not of the operation's shape."""
    shape = _input(service, operation)
    if shape is not None:
        _check(shape, request, "")


def _check_type(kind: str, value: Any, path: str) -> None:
    if not isinstance(value, PYTHON_TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        raise BadRequest("SerializationException", f"{path or 'the request'} must be of type {kind}")


def _check(shape: Any, value: Any, path: str) -> None:
    kind = shape.type_name
    _check_type(kind, value, path)
    if kind == "structure":
        for name in shape.required_members:
            if value.get(name) is None:
                raise _violation("null", f"{path}.{name}".lstrip("."), "Member must not be null")
        for name, member in shape.members.items():
            if value.get(name) is not None:
                _check(member, value[name], f"{path}.{name}".lstrip("."))
        return
    _check_bounds(shape, value, path)
    if kind == "list":
        for number, item in enumerate(value, 1):
            _check(shape.member, item, f"{path}.{number}.member")
    if kind == "map":
        for key, item in value.items():
            _check(shape.key, key, f"{path}.key")
            _check(shape.value, item, f"{path}.value")


def _check_bounds(shape: Any, value: Any, path: str) -> None:
    rules = shape.metadata
    if "enum" in rules and value not in rules["enum"]:
        raise _violation(value, path, f"Member must satisfy enum value set: [{', '.join(rules['enum'])}]")
    sized = isinstance(value, str | bytes | list | dict)
    measure, noun = (len(value), "have length") if sized else (value, "have value")
    shown = value if not isinstance(value, bytes) else "java.nio.HeapByteBuffer"
    if "min" in rules and measure < rules["min"]:
        raise _violation(shown, path, f"Member must {noun} greater than or equal to {rules['min']}")
    if "max" in rules and measure > rules["max"]:
        raise _violation(shown, path, f"Member must {noun} less than or equal to {rules['max']}")
    if "pattern" in rules and isinstance(value, str) and not re.fullmatch(rules["pattern"], value, re.DOTALL):
        raise _violation(value, path, f"Member must satisfy regular expression pattern: {rules['pattern']}")


def _violation(value: Any, path: str, rule: str) -> AwsError:
    shown = str(value)[:256]
    where = path[:1].lower() + path[1:]
    return validation(f"1 validation error detected: Value '{shown}' at '{where}' failed to satisfy constraint: {rule}")
