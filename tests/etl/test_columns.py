"""Typed columns: ptars against upb, and what happens where they disagree."""

from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.etl.columns import Columns
from pipeline.etl.plain import as_json, plain, rfc3339
from tests.etl.events import REGISTRY
from tests.schema.random_messages import messages

COLUMNS = Columns(REGISTRY.types.values())
KINDS = sorted(REGISTRY.types)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_columns_say_what_upb_reads(name: str, data: st.DataObject) -> None:
    kind = REGISTRY.find(name)
    drawn = data.draw(st.lists(messages(kind.message_class), min_size=1, max_size=4))
    structs, refused = COLUMNS.convert(name, drawn, [message.SerializeToString() for message in drawn])
    assert [] == refused
    assert [plain(message) for message in drawn] == [_plain_row(row) for row in structs.to_pylist(maps_as_pydicts="strict")]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_the_lake_gives_the_messages_back(name: str, data: st.DataObject) -> None:
    """What rebuilding RDS from the lake stands on; nanoseconds are the only loss."""
    kind = REGISTRY.find(name)
    drawn = data.draw(st.lists(messages(kind.message_class), min_size=1, max_size=4))
    structs, _ = COLUMNS.convert(name, drawn, [message.SerializeToString() for message in drawn])
    assert [plain(message) for message in drawn] == [plain(message) for message in COLUMNS.messages(name, structs)]


def _plain_row(row: Any) -> Any:
    """A row of Arrow as `plain` says it: absent left out, moments as text."""
    if isinstance(row, dict):
        return {key: _plain_row(value) for key, value in row.items() if value is not None}
    if isinstance(row, list):
        return [_plain_row(value) for value in row]
    if hasattr(row, "timestamp"):
        micros = pa.scalar(row, pa.timestamp("us", "UTC")).cast(pa.int64()).as_py()
        return rfc3339(micros)
    return row


def test_poison_among_good_ones_is_found_alone():
    name = "spillway.events.v1.FlightArrived"
    good = REGISTRY.find(name).message_class(carrier="UA")
    raw = good.SerializeToString()

    class Stubborn:
        """What ptars can't read even as upb would write it."""

        def SerializeToString(self, deterministic: bool) -> bytes:  # noqa: N802
            return b"\xff"

    structs, refused = COLUMNS.convert(name, [good, good, Stubborn(), good], [raw, b"\xff", b"\xff", raw])  # type: ignore[list-item]
    assert ([2], ["UA"] * 3) == (refused, [row["carrier"] for row in structs.to_pylist()])


@settings(max_examples=40, deadline=None)
@given(messages(REGISTRY.find("spillway.events.v1.OrderPlaced").message_class))
def test_plain_json_reads_back_as_the_same_message(message: Any) -> None:
    """`json_format` is the oracle; only U+0000 differs, which PostgreSQL can't hold."""
    back = json_format.Parse(as_json(plain(message)), type(message)())
    expected = json_format.Parse(json_format.MessageToJson(message).replace("\\u0000", "\u2400"), type(message)())
    for one in (back, expected):
        one.promised_for.nanos -= one.promised_for.nanos % 1000
    assert expected == back


def test_nul_and_what_only_looks_like_it():
    assert '{"a":"x\u2400y","b":"\\\\u0000"}' == as_json({"a": "x\0y", "b": "\\u0000"})
