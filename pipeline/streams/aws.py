"""Where Kinesis is and who we are to it, as botocore resolves both, asked only when first needed.

Resolving may read files, ask an instance's metadata service or assume a role, so it runs on a thread and never at the start of
a process: a door starts with no AWS up (TRAPS 12). Credentials that expire are refreshed by botocore, on a thread as well.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import botocore.exceptions
import botocore.session

from pipeline.errors import Unavailable
from pipeline.streams.sigv4 import Credentials, Signer


@dataclass(frozen=True, slots=True)
class Access:
    """What one signed call needs."""

    url: str
    signer: Signer
    credentials: Credentials


class AccessSource(Protocol):
    async def access(self) -> Access:
        """Raises: Unavailable."""
        ...

    def forget(self) -> None:
        """The other side called the credentials expired or unknown: resolve them anew next time."""
        ...


class BotocoreAccess:
    """Endpoint and credentials of one service, by botocore's own rules (AWS_ENDPOINT_URL and its per-service forms)."""

    def __init__(self, service: str, region: str) -> None:
        self._service, self._region = service, region
        self._held: tuple[str, Signer, Any] | None = None
        self._resolving = asyncio.Lock()

    async def access(self) -> Access:
        async with self._resolving:
            if self._held is None:
                self._held = await asyncio.to_thread(self._resolve)
        url, signer, held = self._held
        if getattr(held, "refresh_needed", bool)():
            frozen = await asyncio.to_thread(self._frozen, held)
        else:
            frozen = self._frozen(held)
        return Access(url, signer, Credentials(frozen.access_key, frozen.secret_key, frozen.token))

    def forget(self) -> None:
        self._held = None

    def _resolve(self) -> tuple[str, Signer, Any]:
        try:
            session = botocore.session.Session()
            credentials = session.get_credentials()
            if credentials is None:
                raise Unavailable("no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a role")
            client = session.create_client(self._service, region_name=self._region)
        except botocore.exceptions.BotoCoreError as exc:
            raise Unavailable(f"AWS can't be resolved: {exc}") from exc
        url = client.meta.endpoint_url.rstrip("/") + "/"
        return url, Signer(self._service, self._region, urlsplit(url).netloc), credentials

    def _frozen(self, held: Any) -> Any:
        try:
            return held.get_frozen_credentials()
        except botocore.exceptions.BotoCoreError as exc:
            raise Unavailable(f"AWS credentials can't be refreshed: {exc}") from exc
