"""Object storage for the ETL, by obstore and delta-rs; the JVM never touches S3.

Both read credentials as the AWS SDKs do (environment, container, instance). The endpoint comes from AWS_ENDPOINT_URL_S3 or
AWS_ENDPOINT_URL and from nothing else. A `file://` URI is a folder, for tests and for a lake on one machine.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.store import LocalStore, S3Store

from pipeline.errors import InvalidConfiguration, Unavailable

_TIMEOUT_SECONDS = 30
_RETRY_SECONDS_MAX = 45
_RETRIES_MAX = 6


class Objects:
    """Whole objects under one URI."""

    def __init__(self, uri: str, region: str, env: Mapping[str, str] | None = None) -> None:
        self.uri = uri
        self._store = _store(uri, region, os.environ if env is None else env)

    def put(self, key: str, body: bytes) -> None:
        """Raises: Unavailable: it may or may not be stored."""
        try:
            obstore.put(self._store, key, body)
        except (obstore.exceptions.BaseError, OSError) as exc:
            raise Unavailable(f"writing under {self.uri}: {type(exc).__name__}") from exc

    def get(self, key: str) -> bytes:
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except (obstore.exceptions.BaseError, OSError) as exc:
            raise Unavailable(f"reading {key} under {self.uri}: {type(exc).__name__}") from exc


def _store(uri: str, region: str, env: Mapping[str, str]) -> Any:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        Path(parts.path).mkdir(parents=True, exist_ok=True)
        return LocalStore(parts.path)
    if parts.scheme != "s3":
        raise InvalidConfiguration(f"{uri}: a lake lies at s3://bucket/path or file:///path")
    config: dict[str, Any] = {"region": region, "virtual_hosted_style_request": False}
    endpoint = _endpoint(env)
    if endpoint:
        config["endpoint"] = endpoint
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        config=config,  # type: ignore[arg-type]
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": timedelta(seconds=_TIMEOUT_SECONDS)},
        retry_config={
            "max_retries": _RETRIES_MAX,
            "retry_timeout": timedelta(seconds=_RETRY_SECONDS_MAX),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
        },
    )


def delta_options(uri: str, region: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """delta-rs's storage options: commits are conditional writes, so two writers can't both make one version."""
    if not uri.startswith("s3://"):
        return {}
    endpoint = _endpoint(os.environ if env is None else env)
    options = {"region": region, "conditional_put": "etag", "timeout": f"{_TIMEOUT_SECONDS}s"}
    if endpoint:
        options |= {"endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}
    return options


def _endpoint(env: Mapping[str, str]) -> str:
    return env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or ""
