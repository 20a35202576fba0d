"""Encrypts the secrets of automations as they are stored, with the keys of TALLYARD_SECRET_KEY.

The first key encrypts, and every key decrypts. So a key is changed by putting a new one before
it; the old one stays until nothing is encrypted with it any more.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from spans.errors import SetupError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

SETTING = "TALLYARD_SECRET_KEY"

KEY_CHARACTERS_MIN = 24
"""The shortest key, characters: random ones of base64 hold 18 bytes, which nobody guesses."""

SIGNING_BYTES = 32
"""The length of a signing secret. Standard Webhooks asks for 24 to 64 random bytes."""

SIGNING_PREFIX = "whsec_"

# A key encrypts nothing else than secrets of automations, even if the operator uses the same
# text for something else.
_PURPOSE = b"tallyard: secrets of automations\0"


def new_signing_secret() -> str:
    """A new secret that signs deliveries: `whsec_` and the base64 of its random bytes."""
    return SIGNING_PREFIX + base64.b64encode(secrets.token_bytes(SIGNING_BYTES)).decode()


class SecretBox:
    """Seals texts and opens them. Without keys it does neither, and says what to set."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(keys)
        self._opened: MultiFernet | None = None

    @property
    def has_key(self) -> bool:
        """Whether it can seal."""
        return bool(self._keys)

    def seal(self, text: str) -> bytes:
        """The text, encrypted. Raises SetupError without a key."""
        return self._cipher().encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """The text that was sealed. Raises SetupError without the key that sealed it."""
        # Imported here, because it takes 8 MB, which most processes never need.
        from cryptography.fernet import InvalidToken  # noqa: PLC0415

        try:
            return self._cipher().decrypt(sealed).decode()
        except InvalidToken as error:
            raise SetupError(
                f"a secret of an automation was stored with a key that {SETTING} does not "
                "have: add that key after the first one, separated by a comma"
            ) from error

    def _cipher(self) -> MultiFernet:
        if not self._keys:
            raise SetupError(
                f"{SETTING} is not set, and secrets of webhooks are not stored without it: "
                f"ask the operator to set it to a random text of at least {KEY_CHARACTERS_MIN} "
                "characters, such as `openssl rand -base64 32` prints, for the API and all "
                "workers"
            )
        if self._opened is None:
            from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415

            self._opened = MultiFernet([Fernet(_derived(key)) for key in self._keys])
        return self._opened


def _derived(key: str) -> bytes:
    """The key as Fernet takes it. The text is random already, so one hash is enough."""
    return base64.urlsafe_b64encode(hashlib.sha256(_PURPOSE + key.encode()).digest())
