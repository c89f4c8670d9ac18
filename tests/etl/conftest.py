"""Real PostgreSQL and Redis, started once; each test gets them empty."""

from collections.abc import Iterator

import psycopg
import pytest

from pipeline.etl import rds, redis_exit
from pipeline.stack.launch import Stack


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with Stack.start(tmp_path_factory.mktemp("stores"), parts=("postgres", "redis"), deadline_seconds=120) as stack:
        yield stack.env()


@pytest.fixture
def rds_url(stores: dict[str, str]) -> str:
    url = stores["SPILLWAY_RDS_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    connection = rds.connect(url)
    rds.create_schema(connection)
    connection.close()
    return url


@pytest.fixture
def redis_url(stores: dict[str, str]) -> str:
    url = stores["SPILLWAY_REDIS_URL"]
    redis_exit.connect(url).flushall()
    return url
