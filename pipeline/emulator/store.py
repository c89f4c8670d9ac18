"""Object stores for Firehose: S3 by boto3 for the server, a dictionary for tests.

boto3 is imported with the first put: it is more than half of the emulator's start otherwise.
"""

from __future__ import annotations

import threading
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .delivery import StoreFailed

CONNECT_SECONDS_MAX = 5
READ_SECONDS_MAX = 30


class MemoryStore:
    """Objects by bucket and key."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.objects[bucket, key] = body


class S3Store:
    """S3 as the environment names it (AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL). One attempt a put: Firehose retries."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._lock = threading.Lock()
        self._client: Any = None

    def put(self, bucket: str, key: str, body: bytes) -> None:
        try:
            self._s3().put_object(Bucket=bucket, Key=key, Body=body)
        except (BotoCoreError, ClientError) as exc:
            raise StoreFailed(repr(exc)) from exc

    def _s3(self) -> Any:
        with self._lock:
            if self._client is None:
                import boto3
                from botocore.config import Config

                config = Config(
                    connect_timeout=CONNECT_SECONDS_MAX,
                    read_timeout=READ_SECONDS_MAX,
                    retries={"total_max_attempts": 1},
                    s3={"addressing_style": "path"},
                )
                self._client = boto3.client("s3", region_name=self._region, config=config)
            return self._client
