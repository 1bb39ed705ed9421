"""The key pair callers encrypt passwords and keys with, and the reading of what they sent."""

import base64
import binascii
from collections.abc import Iterable
from math import lcm
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    generate_private_key,
)
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.access.vault import Vault
from app.domain.errors import InvalidRequest
from app.models.access import WireKey

DEFAULT = "DEFAULT"
PREFIX = base64.b64encode(DEFAULT.encode()).decode()  # in front of every ciphertext
# Some descriptions of the format print the prefix with two letters exchanged.
PREFIXES = (PREFIX, "REGVQVVMVA==")
KEY_BITS = 2048
PADDING_BYTES = 11
MAX_CIPHERTEXT = 64 * 1024  # a private key, encrypted twice over, is a fifth of it
MAX_NESTING = 5


class _NotDecrypted(Exception):
    """The text is not ciphertext of our key."""


def ensure_wire_key(session: Session, vault: Vault) -> WireKey:
    """The pair DEFAULT, made at the first start."""
    return _find(session) or _make(session, vault) or _get(session)


def public_keys(session: Session, names: Iterable[str]) -> list[dict[str, Any]]:
    """The answer of fetch_public_keys: the asked keys that exist."""
    rows = session.scalars(select(WireKey).where(WireKey.name.in_(list(names))))
    return [
        {
            "name": row.name,
            "description": row.description,
            "content": row.public_key,
            "cipher_type": row.cipher_type,
            "block_size": row.block_size,
        }
        for row in rows
    ]


class WireSecrets:
    """Reads the secrets of one call; a ciphertext sent for many hosts is decrypted once."""

    def __init__(self, session: Session, vault: Vault) -> None:
        self._session = session
        self._vault = vault
        self._keys: tuple[RSAPrivateKey, RSAPrivateKey] | None = None
        self._known: dict[str, str] = {}

    def open(self, text: str, field: str = "") -> str:
        """Ciphertext carries the prefix, everything else is meant literally."""
        if not text.startswith(PREFIXES):
            return text
        if text not in self._known:
            self._known[text] = self._decrypt_nested(text, field)
        return self._known[text]

    def _decrypt_nested(self, text: str, field: str) -> str:
        try:
            for _ in range(MAX_NESTING):
                text = self._decrypt(text)
                if not text.startswith(PREFIXES):
                    return text
        except _NotDecrypted:
            pass
        raise InvalidRequest(
            f"{field or 'A secret'} cannot be decrypted: fetch the public key {DEFAULT} again "
            "and encrypt with it (RSA, PKCS#1 v1.5), or send plain text.",
            **({"field": field} if field else {}),
        )

    def _decrypt(self, text: str) -> str:
        if len(text) > MAX_CIPHERTEXT:
            raise _NotDecrypted
        try:
            cipher = base64.b64decode("".join(text[len(PREFIX) :].split()), validate=True)
            return b"".join(self._decrypt_chunk(chunk) for chunk in self._chunks(cipher)).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise _NotDecrypted from None

    def _chunks(self, cipher: bytes) -> list[bytes]:
        size = self._pair()[0].key_size // 8
        if not cipher or len(cipher) % size:
            raise _NotDecrypted
        return [cipher[start : start + size] for start in range(0, len(cipher), size)]

    def _decrypt_chunk(self, chunk: bytes) -> bytes:
        try:
            plain, check = (key.decrypt(chunk, PKCS1v15()) for key in self._pair())
        except ValueError:
            raise _NotDecrypted from None
        if not plain or plain != check:
            raise _NotDecrypted
        return plain

    def _pair(self) -> tuple[RSAPrivateKey, RSAPrivateKey]:
        if self._keys is None:
            row = _get(self._session)
            self._keys = _with_twin(self._vault.open(row.private_key, row.purpose))
        return self._keys


def _with_twin(pem: bytes) -> tuple[RSAPrivateKey, RSAPrivateKey]:
    """The key, and the same key with another private exponent.

    OpenSSL answers broken padding with made-up bytes that depend on the exponent. Where the two
    agree the padding was right; with one key alone a wrong ciphertext could pass as a password.
    """
    # we made this key and the seal proves it unchanged; checking its primes again takes 40 ms
    key = serialization.load_pem_private_key(
        pem, password=None, unsafe_skip_rsa_key_validation=True
    )
    assert isinstance(key, RSAPrivateKey)
    parts = key.private_numbers()
    period = lcm(parts.p - 1, parts.q - 1)
    other = parts.d % period + (period if parts.d < period else 0)
    twin = RSAPrivateNumbers(
        parts.p, parts.q, other, parts.dmp1, parts.dmq1, parts.iqmp, parts.public_numbers
    )
    return key, twin.private_key(unsafe_skip_rsa_key_validation=True)


def _find(session: Session) -> WireKey | None:
    return session.scalar(select(WireKey).where(WireKey.name == DEFAULT))


def _get(session: Session) -> WireKey:
    row = _find(session)
    if row is None:
        raise InvalidRequest(
            f"There is no public key {DEFAULT} here yet; fetch it first, or send plain text."
        )
    return row


def _make(session: Session, vault: Vault) -> WireKey | None:
    key = generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    row = WireKey(
        name=DEFAULT,
        description="Encrypts passwords and keys on their way here.",
        cipher_type="RSA",
        block_size=KEY_BITS // 8 - PADDING_BYTES,
        public_key=_public_pem(key),
    )
    row.private_key = vault.seal(_private_pem(key), row.purpose)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return None  # another process was first; its pair counts
    return row


def _public_pem(key: RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def _private_pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
