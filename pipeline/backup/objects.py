"""The port to the bucket, as far as backup and dead letters need it, and its in-memory twin.

Blocking: callers in an event loop run it in a thread. `list` is in the order of keys, as S3's is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import Permanent, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
_MISSING = ("NoSuchKey", "404", "NotFound")


class NoSuchObject(Permanent):
    """There is no object of that key."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as a listing shows it."""

    key: str
    size_bytes: int
    # The store's clock when the object was put; of a multipart upload, when that began.
    modified_at: datetime = field(default=datetime.fromtimestamp(0, UTC), compare=False)


class Objects(Protocol):
    """Everything may raise Unavailable."""

    def put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        """When it returns, the object is stored; it replaces one of the same key."""
        ...

    def get(self, key: str) -> bytes:
        """Raises: NoSuchObject."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """Objects of this prefix with keys behind `after`, which need not be the key of one."""
        ...

    def delete(self, key: str) -> None: ...


@dataclass
class MemoryObjects:
    """`failure`, when set, is raised by every call instead."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, Mapping[str, str]] = field(default_factory=dict)
    failure: Exception | None = None
    modified_at: dict[str, datetime] = field(default_factory=dict)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        self._may_fail()
        self.bodies[key], self.metadata[key], self.modified_at[key] = body, dict(metadata), self.now()

    def get(self, key: str) -> bytes:
        self._may_fail()
        if key not in self.bodies:
            raise NoSuchObject(key)
        return self.bodies[key]

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        self._may_fail()
        for key in sorted(self.bodies):
            if key.startswith(prefix) and key > after:
                yield Stored(key, len(self.bodies[key]), self.modified_at.get(key, datetime.fromtimestamp(0, UTC)))

    def delete(self, key: str) -> None:
        self._may_fail()
        self.bodies.pop(key, None)
        self.metadata.pop(key, None)
        self.modified_at.pop(key, None)

    def _may_fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class S3Objects:
    """The objects of one bucket on S3."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        self._call(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=body, Metadata=metadata))

    def get(self, key: str) -> bytes:
        return self._call(lambda: self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        paginator = self._client.get_paginator("list_objects_v2")
        pages = iter(paginator.paginate(Bucket=self._bucket, Prefix=prefix, StartAfter=after))
        while (page := self._call(lambda: next(pages, None))) is not None:
            for item in page.get("Contents", []):
                yield Stored(item["Key"], item["Size"], item["LastModified"])

    def delete(self, key: str) -> None:
        self._call(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            if code in _MISSING:
                raise NoSuchObject(f"{self._bucket}: no such object") from exc
            raise Unavailable(f"bucket {self._bucket}: {code}") from exc
        except (BotoCoreError, OSError) as exc:
            raise Unavailable(f"bucket {self._bucket}: {type(exc).__name__}") from exc
