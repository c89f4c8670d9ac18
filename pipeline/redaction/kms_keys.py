"""Pseudonym keys under KMS: a data key per tenant, of which only the ciphertext is stored.

The first use of a tenant makes a data key and stores it at `keys/pseudonym/<tenant>` by a conditional put, so that of two
redactors that race one wins and the other reads the winner's key. The plain key lives in memory for `key_cache_seconds` at most:
disabling the KMS key, or taking the grant away, stops every redactor within that time, and deleting the object makes the
pseudonyms of that tenant untraceable for ever. Every failure is Unavailable: the redactor waits, nothing passes.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import Unavailable
from pipeline.redaction.keys import KEY_BYTES

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

_CACHED_TENANTS_MAX = 4096
_LOST_THE_RACE = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_ABSENT = ("NoSuchKey", "404")


@dataclass(frozen=True, slots=True)
class RedactionSettings:
    SECTION: ClassVar[str] = "redaction"

    # The KMS key under which the tenants' pseudonym keys are made: an alias, an id or an ARN.
    kms_key: str = "alias/spillway-pseudonym"
    # How long a plain key is remembered: the time within which disabling the KMS key stops the redactor.
    key_cache_seconds: float = 300.0


class KmsKeys:
    """A PseudonymKeys. Safe to call from several threads; `clock` is monotonic, in seconds."""

    def __init__(
        self, kms: "KMSClient", s3: "S3Client", *, bucket: str, settings: RedactionSettings, clock: Callable[[], float]
    ) -> None:
        self._kms = kms
        self._s3 = s3
        self._bucket = bucket
        self._settings = settings
        self._clock = clock
        self._cached: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def key(self, tenant: str) -> bytes:
        """Raises: Unavailable: KMS or S3 did not give the key."""
        with self._lock:
            now = self._clock()
            known = self._cached.get(tenant)
            if known is not None and now < known[0]:
                return known[1]
            self._cached.pop(tenant, None)
            key = self._plain(tenant)
            self._cached[tenant] = (now + self._settings.key_cache_seconds, key)
            while len(self._cached) > _CACHED_TENANTS_MAX:
                self._cached.popitem(last=False)
            return key

    def _plain(self, tenant: str) -> bytes:
        context = {"spillway-tenant": tenant}
        try:
            sealed = self._stored(tenant) or self._made(tenant, context)
            key = self._kms.decrypt(CiphertextBlob=sealed, EncryptionContext=context)["Plaintext"]
        except ClientError as exc:
            code = exc.response.get("Error", {}).get("Code", "unknown")
            raise Unavailable(f"the pseudonym key of a tenant can't be had: {exc.operation_name} answered {code}") from exc
        except BotoCoreError as exc:
            raise Unavailable(f"the pseudonym key of a tenant can't be had: {type(exc).__name__}") from exc
        if len(key) != KEY_BYTES:
            raise Unavailable(f"the pseudonym key of a tenant has {len(key)} bytes instead of {KEY_BYTES}")
        return key

    def _stored(self, tenant: str) -> bytes | None:
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=_object_key(tenant))["Body"].read()
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") in _ABSENT:
                return None
            raise

    def _made(self, tenant: str, context: dict[str, str]) -> bytes:
        sealed = self._kms.generate_data_key(KeyId=self._settings.kms_key, KeySpec="AES_256", EncryptionContext=context)[
            "CiphertextBlob"
        ]
        try:
            self._s3.put_object(Bucket=self._bucket, Key=_object_key(tenant), Body=sealed, IfNoneMatch="*")
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") not in _LOST_THE_RACE:
                raise
            winner = self._stored(tenant)
            if winner is None:
                raise Unavailable("the pseudonym key of a tenant is being written by another redactor") from exc
            return winner
        return sealed


def _object_key(tenant: str) -> str:
    return f"keys/pseudonym/{quote(tenant, safe='')}"
