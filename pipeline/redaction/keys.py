"""The keys of pseudonyms: one per tenant, so that equal values stay equal within a tenant and say nothing across tenants."""

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

KEY_BYTES = 32


class PseudonymKeys(Protocol):
    def key(self, tenant: str) -> bytes:
        """The tenant's key, 32 bytes, the same for ever.

        Raises:
            Retryable: the key can't be had now. The redactor stops there: nothing passes without it.
        """
        ...


@dataclass
class MemoryKeys:
    """Keys derived from a seed: for tests. `failure`, when set, is raised instead."""

    seed: bytes = b"not a secret"
    failure: Exception | None = field(default=None)

    def key(self, tenant: str) -> bytes:
        if self.failure is not None:
            raise self.failure
        return hashlib.blake2b(tenant.encode(), key=self.seed, digest_size=KEY_BYTES).digest()
