from datetime import UTC, datetime
from unittest import mock

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from pipeline.streams.sigv4 import Credentials, Signer

NOW = datetime(2026, 11, 23, 5, 41, 27, tzinfo=UTC)
TARGET = "Kinesis_20131202.PutRecords"


@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize("host", ["kinesis.eu-west-1.amazonaws.com", "127.0.0.1:4568"])
def test_signature_is_that_of_botocore(token: str | None, host: str) -> None:
    body = b'{"StreamName":"events","Records":[]}'
    request = AWSRequest(
        method="POST",
        url=f"https://{host}/",
        data=body,
        headers={"X-Amz-Target": TARGET, "Content-Type": "application/x-amz-json-1.1"},
    )
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        botocore.auth.SigV4Auth(BotocoreCredentials("AKID", "secret", token), "kinesis", "eu-west-1").add_auth(request)
    ours = Signer("kinesis", "eu-west-1", host).headers(body, TARGET, Credentials("AKID", "secret", token), NOW)
    assert request.headers["Authorization"] == ours["authorization"]


def test_a_new_secret_is_signed_with_at_once() -> None:
    signer = Signer("kinesis", "eu-west-1", "h")
    first = signer.headers(b"", TARGET, Credentials("A", "one"), NOW)
    second = signer.headers(b"", TARGET, Credentials("A", "two"), NOW)
    assert first["authorization"] != second["authorization"]
    assert second == Signer("kinesis", "eu-west-1", "h").headers(b"", TARGET, Credentials("A", "two"), NOW)
