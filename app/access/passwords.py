"""Passwords of people: hashed slowly, recognised again quickly."""

import base64
import hashlib
import hmac
import secrets
import threading
import time

COST, BLOCK, LANES = 2**15, 8, 1  # about 80 ms and 32 MB a try
MEMORY = 2 * 128 * COST * BLOCK
TTL = 60.0  # seconds a right password is remembered in this process
MOST = 1000


def hash_password(password: str) -> str:
    """The password as it is kept: its scrypt hash, with its own salt and cost."""
    salt = secrets.token_bytes(16)
    return f"scrypt${COST}${BLOCK}${LANES}${_text(salt)}${_text(_scrypt(password, salt))}"


def is_password(password: str, password_hash: str) -> bool:
    """Whether this is the password; the slow way."""
    _, cost, block, lanes, salt, expected = password_hash.split("$")
    digest = _scrypt(password, base64.b64decode(salt), int(cost), int(block), int(lanes))
    return hmac.compare_digest(_text(digest), expected)


class SuccessCache:
    """Remembers for a moment which passwords were right, as keyed digests nobody can turn back.

    The stored hash is part of the digest, so a changed password is forgotten at once.
    """

    def __init__(self, ttl: float = TTL) -> None:
        self._key = secrets.token_bytes(32)
        self._ttl = ttl
        self._until: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def is_password(self, password: str, password_hash: str) -> bool:
        digest = self._digest(password, password_hash)
        with self._lock:
            if self._until.get(digest, 0.0) > time.monotonic():
                return True
        is_right = is_password(password, password_hash)
        if is_right:
            self._remember(digest)
        return is_right

    def _remember(self, digest: bytes) -> None:
        with self._lock:
            if len(self._until) >= MOST:
                self._until.clear()
            self._until[digest] = time.monotonic() + self._ttl

    def _digest(self, password: str, password_hash: str) -> bytes:
        text = f"{password_hash}\0{password}".encode(errors="surrogatepass")
        return hmac.digest(self._key, text, "sha256")


def _scrypt(
    password: str, salt: bytes, cost: int = COST, block: int = BLOCK, lanes: int = LANES
) -> bytes:
    data = password.encode(errors="surrogatepass")
    return hashlib.scrypt(data, salt=salt, n=cost, r=block, p=lanes, maxmem=MEMORY)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
