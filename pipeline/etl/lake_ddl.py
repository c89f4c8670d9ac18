"""The lake as an external table of Redshift Spectrum, by symlink manifests.

Print it with `spillway lake ddl`; run it in Redshift once, and again when a type was added. `spillway lake manifest` writes the
manifests; new partitions are added by the ALTER TABLE lines, which may be repeated.
"""

from collections.abc import Iterable
from urllib.parse import quote

import pyarrow as pa

from pipeline.etl.lake import Lake
from pipeline.etl.lake_care import PartitionSize, partitions
from pipeline.etl.stage import PARTITION_COLUMNS
from pipeline.event import CANARY_TENANT

_VARCHAR = "varchar(65535)"


def ddl(lake: Lake, external_schema: str = "spillway") -> str:
    """CREATE EXTERNAL TABLE and its partitions, for the lake as it is now, without those of the canary."""
    business = [one for one in partitions(lake) if one.tenant != CANARY_TENANT]
    schema = pa.schema(lake.table().schema().to_arrow())
    return "\n\n".join([_create(lake.uri, schema, external_schema), *_partitions(lake.uri, business, external_schema)]) + "\n"


def _create(uri: str, schema: pa.Schema, external_schema: str) -> str:
    columns = ",\n".join(
        f'    "{field.name}" {_type(field.type, top=True)}' for field in schema if field.name not in PARTITION_COLUMNS
    )
    return f"""CREATE EXTERNAL TABLE {external_schema}.events (
{columns}
)
PARTITIONED BY ("tenant" varchar(256), "type" varchar(256), "date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION '{uri}/_symlink_format_manifest/';"""


def _partitions(uri: str, there: Iterable[PartitionSize], external_schema: str) -> Iterable[str]:
    for one in there:
        values = (one.tenant, one.type, one.date)
        spec = ", ".join(f"\"{name}\" = '{_literal(value)}'" for name, value in zip(PARTITION_COLUMNS, values, strict=True))
        folder = "/".join(f"{name}={quote(value, safe='')}" for name, value in zip(PARTITION_COLUMNS, values, strict=True))
        yield (
            f"ALTER TABLE {external_schema}.events ADD IF NOT EXISTS PARTITION ({spec})\n"
            f"LOCATION '{uri}/_symlink_format_manifest/{_literal(folder)}/';"
        )


def _literal(text: str) -> str:
    return text.replace("'", "''")


def _type(kind: pa.DataType, *, top: bool = False) -> str:
    """Redshift's external type. Inside a struct the syntax is Hive's."""
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {_type(field.type)}' for field in kind)}>"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"array<{_type(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{_type(kind.key_type)}, {_type(kind.item_type)}>"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "varbyte(65535)" if top else _VARCHAR
    simple = {
        pa.int8(): "smallint",
        pa.int16(): "smallint",
        pa.int32(): "int",
        pa.int64(): "bigint",
        pa.float32(): "real",
        pa.float64(): "double precision",
        pa.bool_(): "boolean",
        pa.date32(): "date",
    }
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return simple.get(kind, _VARCHAR)
