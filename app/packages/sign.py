"""Sign the addresses of packages, so that only hosts of a run can fetch them, and not for ever."""

import hmac
import time
from datetime import timedelta
from pathlib import Path

PURPOSE = b"hostler package url"
SIGNATURE_LENGTH = 32  # hex digits: 128 bits


def sign_url(base: str, sha256: str, key: bytes, ttl: timedelta) -> str:
    """Where a host fetches this package from now until the time is up."""
    expires = int(time.time() + ttl.total_seconds())
    signature = sign(sha256, expires, key)
    return f"{base.rstrip('/')}/packages/{sha256}?exp={expires}&sig={signature}"


def sign(sha256: str, expires: int, key: bytes) -> str:
    """The signature of an address: of this package until that moment, under this key."""
    message = f"{sha256} {expires}".encode()
    return hmac.new(key, message, "sha256").hexdigest()[:SIGNATURE_LENGTH]


def is_signed(sha256: str, expires: int, signature: str, keys: list[bytes]) -> bool:
    """Whether one of our keys made this signature."""
    given = signature.encode()
    return any(hmac.compare_digest(sign(sha256, expires, key).encode(), given) for key in keys)


def signing_keys(key_file: Path) -> list[bytes]:
    """A signing key from each key of the key file; the last one signs, all of them are accepted."""
    lines = key_file.read_text().splitlines()
    secrets = [line for line in lines if line.strip() and not line.startswith("#")]
    return [hmac.new(line.strip().encode(), PURPOSE, "sha256").digest() for line in secrets]


def signing_key(key_file: Path) -> bytes:
    """The key that signs now."""
    return signing_keys(key_file)[-1]
