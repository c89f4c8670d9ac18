"""From Protobuf messages to typed Arrow columns, one struct per event type.

Rules. Every value keeps its meaning in a type that Delta has: unsigned 32-bit integers become 64-bit, unsigned 64-bit ones
decimal(20,0), durations microseconds, enums their names (an unknown number its digits), the inside of a recursive message
its Protobuf bytes. Everything may be null: a file written before a field was added has no value for it.
`ptars` converts; where it refuses a message that upb takes, the batch is halved until the message is
alone, which is then tried once more as upb writes it, and else returned as refused.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import ptars
import pyarrow as pa
from google.protobuf.message import Message

from pipeline.errors import InvalidSchema
from pipeline.schema.registry import EventType

_CONFIG = ptars.PtarsConfig(timestamp_unit="us", duration_unit="us", time_unit="us", enum_repr="string")


class Columns:
    """Converters for every event type of a registry."""

    def __init__(self, kinds: Iterable[EventType]) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._pools: dict[str, ptars.HandlerPool] = {}
        self._types: dict[str, pa.StructType] = {}

    def struct_type(self, name: str) -> pa.StructType:
        """The Arrow type of this event type's column."""
        known = self._types.get(name)
        if known is None:
            known = pa.struct([_stored(field) for field in self._handler(name).schema()])
            # Parquet has no empty group: a message without fields still says that it was sent.
            known = self._types[name] = known if known.num_fields else pa.struct([("sent", pa.bool_())])
        return known

    def convert(self, name: str, messages: Sequence[Message], payloads: Sequence[bytes]) -> tuple[pa.StructArray, list[int]]:
        """One struct per payload that could be converted, in order, and the places of those that could not."""
        handler = self._handler(name)
        target = self.struct_type(name)
        chunks: list[pa.StructArray] = []
        refused: list[int] = []

        def take(start: int, end: int) -> None:
            try:
                chunks.append(_structs(handler, payloads[start:end], target))
            except _Refused:
                if end - start > 1:
                    middle = (start + end) // 2
                    take(start, middle)
                    take(middle, end)
                    return
                try:
                    chunks.append(_structs(handler, [messages[start].SerializeToString(deterministic=True)], target))
                except _Refused:
                    refused.append(start)

        if payloads:
            take(0, len(payloads))
        return (pa.concat_arrays(chunks) if chunks else pa.array([], target)), refused

    def messages(self, name: str, structs: pa.StructArray) -> list[Message]:
        """The way back: each struct of this type's column as a message. Nanoseconds below a microsecond are gone.

        Raises:
            InvalidSchema: the column holds a field that the deployed schema does not have any more.
        """
        handler, kind = self._handler(name), self._kinds[name]
        schema = handler.schema()
        if not schema.names:
            return [kind.message_class() for _ in structs]
        lost = {field.name for field in structs.type} - set(schema.names)
        if lost:
            raise InvalidSchema(f"the lake has {name}.{', '.join(sorted(lost))}, the deployed schema does not")
        nullable = pa.struct([field.with_nullable(True) for field in schema])
        batch = pa.RecordBatch.from_struct_array(structs.cast(nullable))
        found = [kind.message_class.FromString(value.as_py()) for value in handler.record_batch_to_array(batch)]
        for field in kind.descriptor.fields:
            if field.enum_type is not None and not field.is_repeated:
                for message, text in zip(found, structs.field(field.name).to_pylist(), strict=True):
                    if text is not None and text.lstrip("-").isdigit():  # a number without a name: ptars forgets it
                        setattr(message, field.name, int(text))
        return found

    def _handler(self, name: str) -> Any:
        pool = self._pools.get(name)
        descriptor = self._kinds[name].descriptor
        if pool is None:
            pool = self._pools[name] = ptars.HandlerPool([descriptor.file], config=_CONFIG)
        return pool.get_for_message(descriptor)


class _Refused(Exception):
    """ptars can't convert one of these."""


def _structs(handler: Any, payloads: Sequence[bytes], target: pa.StructType) -> pa.StructArray:
    try:
        batch = handler.list_to_record_batch(list(payloads))
        if not batch.schema.names:
            return pa.StructArray.from_arrays([pa.array([True] * len(payloads))], fields=list(target))
        return batch.to_struct_array().cast(target)
    except (ValueError, TypeError, pa.ArrowException) as exc:
        raise _Refused from exc
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":  # what a panic in Rust arrives as; it is no Exception
            raise
        raise _Refused from exc


def _stored(field: pa.Field) -> pa.Field:
    return pa.field(field.name, stored_type(field.type))


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type that the lake stores for what ptars gives."""
    if pa.types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if pa.types.is_unsigned_integer(kind) or pa.types.is_duration(kind):
        return pa.int64()
    if pa.types.is_struct(kind):
        return pa.struct([_stored(field) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", stored_type(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(stored_type(kind.key_type), stored_type(kind.item_type))
    return kind
