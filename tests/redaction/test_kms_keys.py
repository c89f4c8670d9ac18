"""Pseudonym keys under KMS: made once, cached for a while, and gone when KMS says no."""

import io
from dataclasses import dataclass, field

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pipeline.errors import Unavailable
from pipeline.redaction.kms_keys import KmsKeys, RedactionSettings


def refusal(code, operation):
    return ClientError({"Error": {"Code": code, "Message": ""}}, operation)


@dataclass
class Kms:
    made: int = 0
    decrypted: int = 0
    failure: Exception | None = None

    def generate_data_key(self, KeyId, KeySpec, EncryptionContext):  # noqa: N803
        if self.failure:
            raise self.failure
        self.made += 1
        return {"CiphertextBlob": repr((self.made, EncryptionContext)).encode()}

    def decrypt(self, CiphertextBlob, EncryptionContext):  # noqa: N803
        if self.failure:
            raise self.failure
        made, context = eval(CiphertextBlob)
        assert context == EncryptionContext
        self.decrypted += 1
        return {"Plaintext": bytes([made]) * 32}


@dataclass
class S3:
    objects: dict = field(default_factory=dict)
    failure: Exception | None = None
    # Called between the look and the put: another redactor that is faster.
    meanwhile: object = None

    def get_object(self, Bucket, Key):  # noqa: N803
        if self.failure:
            raise self.failure
        if Key not in self.objects:
            raise refusal("NoSuchKey", "GetObject")
        return {"Body": io.BytesIO(self.objects[Key])}

    def put_object(self, Bucket, Key, Body, IfNoneMatch):  # noqa: N803
        assert IfNoneMatch == "*"
        if self.meanwhile:
            self.meanwhile()
        if Key in self.objects:
            raise refusal("PreconditionFailed", "PutObject")
        self.objects[Key] = Body


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def keys(kms, s3, clock=None):
    return KmsKeys(kms, s3, bucket="b", settings=RedactionSettings(), clock=clock or Clock())


def test_a_tenants_key_is_made_once_and_is_the_same_for_every_redactor():
    kms, s3 = Kms(), S3()
    first = keys(kms, s3).key("acme/é")
    assert first == keys(kms, s3).key("acme/é")
    assert 1 == kms.made
    assert ["keys/pseudonym/acme%2F%C3%A9"] == list(s3.objects)
    assert first != keys(kms, s3).key("other")


def test_of_two_redactors_that_race_both_use_the_winners_key():
    kms, s3 = Kms(), S3()
    fast, slow = keys(kms, s3), keys(kms, s3)
    won = []

    def faster():
        s3.meanwhile = None
        won.append(fast.key("acme"))

    s3.meanwhile = faster
    assert slow.key("acme") == won[0]


def test_a_disabled_key_stops_the_redactor_when_the_cache_ends():
    kms, s3, clock = Kms(), S3(), Clock()
    tried = keys(kms, s3, clock)
    key = tried.key("acme")
    kms.failure = refusal("DisabledException", "Decrypt")
    clock.now = 299.0
    assert key == tried.key("acme")
    clock.now = 300.0
    with pytest.raises(Unavailable, match="DisabledException"):
        tried.key("acme")
    kms.failure = None
    assert key == tried.key("acme")


@pytest.mark.parametrize("failure", [refusal("AccessDenied", "GetObject"), EndpointConnectionError(endpoint_url="x")])
def test_any_failure_is_unavailable_and_never_a_new_key(failure):
    kms, s3 = Kms(), S3(failure=failure)
    with pytest.raises(Unavailable):
        keys(kms, s3).key("acme")
    assert 0 == kms.made
