"""The real things behind the consumer's ports: our Kinesis model and a DynamoDB stand-in, started once for this folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipeline.stack.launch import Stack


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("aws")
    with Stack.start(folder, free_ports=True, parts=("ministack", "emulator")) as stack:
        yield stack


def client(stack: Stack, service: str) -> Any:
    env = stack.env()
    return boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=env.get(f"AWS_ENDPOINT_URL_{service.upper()}", env["AWS_ENDPOINT_URL"]),
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
