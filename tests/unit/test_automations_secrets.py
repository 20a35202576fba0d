"""Secrets of automations: sealed as they are stored, and what signs deliveries."""

from __future__ import annotations

import base64
import uuid
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from automations.secrets import SecretBox, new_signing_secret
from automations.signature import message_id, signed_headers
from ops.data_dir import DataDir
from spans.errors import SetupError
from spans.ids import DeliveryId
from wiring.settings import read_settings

OLD, NEW = "the-old-key-that-is-random", "the-new-key-that-is-random"
DELIVERY = DeliveryId(uuid.UUID(int=7))
BODY = '{"text":"Grüße"}'.encode()


def test_what_is_sealed_opens_again_and_does_not_show():
    sealed = SecretBox([OLD]).seal("whsec_abc")
    assert b"whsec" not in sealed
    assert SecretBox([OLD]).open(sealed) == "whsec_abc"


def test_after_a_new_key_is_put_first_both_old_and_new_secrets_open():
    old = SecretBox([OLD]).seal("first")
    both = SecretBox([NEW, OLD])
    assert both.open(old) == "first"
    assert SecretBox([NEW]).open(both.seal("second")) == "second"


def test_without_the_key_that_sealed_it_the_setting_is_named():
    sealed = SecretBox([OLD]).seal("first")
    with pytest.raises(SetupError, match="TALLYARD_SECRET_KEY does not have"):
        SecretBox([NEW]).open(sealed)


def test_without_any_key_nothing_is_sealed_and_the_setting_is_named():
    with pytest.raises(SetupError, match="TALLYARD_SECRET_KEY is not set"):
        SecretBox([]).seal("first")


def test_a_key_that_could_be_guessed_is_refused_without_showing_it():
    with pytest.raises(SetupError, match="at least 24 characters") as caught:
        read_settings({"TALLYARD_SECRET_KEY": f"{NEW},hunter2"})
    assert "hunter2" not in str(caught.value)


def test_the_keys_of_the_setting_are_read_in_their_order():
    settings = read_settings({"TALLYARD_SECRET_KEY": f" {NEW} , {OLD},"})
    assert settings.secret_keys == (NEW, OLD)


def test_the_key_of_a_data_directory_is_made_once_long_enough_and_private(tmp_path):
    data = DataDir(tmp_path)
    key = data.secret(data.secret_key)
    assert data.secret(data.secret_key) == key
    assert read_settings({"TALLYARD_SECRET_KEY": key}).secret_keys == (key,)
    assert data.secret_key.stat().st_mode & 0o777 == 0o600


def test_a_signing_secret_holds_32_random_bytes():
    one, other = new_signing_secret(), new_signing_secret()
    assert one != other
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32


def signed(body: bytes, *secrets: str, now: datetime | None = None) -> dict[str, str]:
    return signed_headers(
        DELIVERY, body, secrets=secrets, now=now or datetime.now(UTC)
    )


def test_the_library_of_receivers_verifies_the_exact_bytes():
    secret = new_signing_secret()
    assert Webhook(secret).verify(BODY, signed(BODY, secret)) == {"text": "Grüße"}


def test_one_changed_byte_or_another_secret_fails():
    secret = new_signing_secret()
    headers = signed(BODY, secret)
    for body, key in ((BODY[:-1] + b" ", secret), (BODY, new_signing_secret())):
        with pytest.raises(WebhookVerificationError):
            Webhook(key).verify(body, headers)


def test_while_a_secret_is_replaced_both_verify():
    old, new = new_signing_secret(), new_signing_secret()
    headers = signed(BODY, new, old)
    assert Webhook(old).verify(BODY, headers) == Webhook(new).verify(BODY, headers)


def test_an_id_stays_and_a_signature_is_that_of_its_attempt():
    secret = new_signing_secret()
    one = signed(BODY, secret, now=datetime(2026, 1, 1, tzinfo=UTC))
    other = signed(BODY, secret, now=datetime(2026, 1, 2, tzinfo=UTC))
    assert one["webhook-id"] == other["webhook-id"] == message_id(DELIVERY)
    assert one["webhook-signature"] != other["webhook-signature"]
    assert "." not in one["webhook-id"]
