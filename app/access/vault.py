"""Seal secrets at rest under a key that is not in the database."""

import base64
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.domain.errors import HostlerError
from app.private import read_private

# A sealed blob: format, key id, nonce, ciphertext with its tag
FORMAT = b"\x01"
KEY_ID_BYTES = 8
NONCE_BYTES = 12
KEY_BYTES = 32
HEAD_BYTES = len(FORMAT) + KEY_ID_BYTES + NONCE_BYTES

HEADER = """\
# Hostler's keys: whoever reads this file and the database reads every secret. Keep a copy apart.
# One key per line: id, key. The last one seals. Remove a line only when nothing is sealed with it.
"""


class VaultError(HostlerError):
    """The key file cannot be used."""


class KeyMissing(VaultError):
    """The key that sealed this is not in the key file."""


class SealBroken(VaultError):
    """A sealed value was changed, or belongs somewhere else."""


class Vault:
    """AES-256-GCM under the keys of one file, which is made at first use."""

    def __init__(self, key_file: Path) -> None:
        self.key_file = key_file
        self._keys: dict[bytes, AESGCM] = {}
        self._newest = b""
        self._seen: tuple[int, ...] = ()
        if not key_file.exists():
            self.add_key(only_if_none=True)
        self._refresh()

    def seal(self, plain: bytes, aad: str) -> bytes:
        """The value, readable only with our key and only for the same purpose."""
        self._refresh()  # another process may have added a key, or the file may be gone
        key_id = self._newest
        nonce = os.urandom(NONCE_BYTES)
        head = FORMAT + key_id
        return head + nonce + self._keys[key_id].encrypt(nonce, plain, head + aad.encode())

    def open(self, blob: bytes, aad: str) -> bytes:
        if blob[:1] != FORMAT or len(blob) <= HEAD_BYTES:
            raise SealBroken(f"What is stored for {aad} is not a sealed value.")
        head, nonce = blob[: 1 + KEY_ID_BYTES], blob[1 + KEY_ID_BYTES : HEAD_BYTES]
        try:
            return self._key(head[1:], aad).decrypt(nonce, blob[HEAD_BYTES:], head + aad.encode())
        except InvalidTag:
            raise SealBroken(
                f"The sealed value of {aad} was changed, or was moved there from elsewhere."
            ) from None

    def is_newest(self, blob: bytes) -> bool:
        """Whether the value is sealed with the key that seals now."""
        self._refresh()
        return blob[: 1 + KEY_ID_BYTES] == FORMAT + self._newest

    def add_key(self, *, only_if_none: bool = False) -> None:
        """From now on a fresh key seals; the older ones still open."""
        self.key_file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.key_file.parent):
            text = self.key_file.read_text() if self.key_file.exists() else HEADER
            if only_if_none and self.key_file.exists():
                return
            key = AESGCM.generate_key(bit_length=8 * KEY_BYTES)
            line = f"{fingerprint(key).hex()} {base64.b64encode(key).decode()}\n"
            _replace(self.key_file, text + line)

    def _key(self, key_id: bytes, aad: str) -> AESGCM:
        if key_id not in self._keys:
            self._refresh()
        if key_id not in self._keys:
            raise KeyMissing(
                f"The key {key_id.hex()} that sealed {aad} is not in {self.key_file}; "
                "restore the key file that belongs to this database."
            )
        return self._keys[key_id]

    def _refresh(self) -> None:
        try:
            state = self.key_file.stat()
        except OSError as error:
            raise VaultError(
                f"The key file {self.key_file} cannot be read ({error.strerror}); restore it."
            ) from None
        seen = (state.st_ino, state.st_mtime_ns, state.st_size)
        if seen == self._seen:
            return
        keys = _read_keys(self.key_file)
        self._keys = {key_id: AESGCM(key) for key_id, key in keys}
        self._newest = keys[-1][0]
        self._seen = seen


def fingerprint(key: bytes) -> bytes:
    """The id a key goes by; it says nothing about the key."""
    return hashlib.sha256(b"hostler key id" + key).digest()[:KEY_ID_BYTES]


def _read_keys(key_file: Path) -> list[tuple[bytes, bytes]]:
    try:
        state, text = read_private(key_file)
        if state.st_mode & 0o077:
            raise VaultError(
                f"The key file {key_file} is open to others; run: chmod 600 {key_file}"
            )
        lines = text.splitlines()
        keys = [_read_key(line) for line in lines if line.strip() and not line.startswith("#")]
    except (OSError, ValueError):
        keys = []
    if not keys:
        raise VaultError(
            f"The key file {key_file} is damaged or unreadable; restore it from its copy."
        )
    return keys


def _read_key(line: str) -> tuple[bytes, bytes]:
    key_id, key = bytes.fromhex(line.split()[0]), base64.b64decode(line.split()[-1], validate=True)
    if len(key) != KEY_BYTES or fingerprint(key) != key_id:
        raise ValueError
    return key_id, key


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    """Write the whole file or nothing: a half-written key would cost every secret."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
