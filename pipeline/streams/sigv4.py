"""AWS Signature Version 4 for one kind of request: a POST of JSON to the root of an AWS endpoint.

botocore's signer is general and costs more than the call; this one keeps the day's signing key. botocore's is its oracle in
the tests. Source: IAM User Guide, "Create a signed AWS API request".
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key: str
    secret_key: str
    token: str | None = None


class Signer:
    """Signs for one service of one region."""

    def __init__(self, service: str, region: str, host: str) -> None:
        self._service, self._region, self._host = service, region, host
        self._kept: tuple[str, str, bytes] = ("", "", b"")

    def headers(self, body: bytes, target: str, credentials: Credentials, now: datetime) -> dict[str, str]:
        """All headers of the signed request. `now` is in UTC."""
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        headers = {"content-type": "application/x-amz-json-1.1", "host": self._host, "x-amz-date": stamp}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        headers["x-amz-target"] = target
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key(stamp[:8], credentials.secret_key), to_sign.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def _key(self, day: str, secret: str) -> bytes:
        if self._kept[:2] != (day, secret):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._kept = (day, secret, key)
        return self._kept[2]
