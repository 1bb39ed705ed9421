"""What callers encrypt with our key arrives; what is broken is refused by name."""

import base64
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP, PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy.orm import Session

from app.access.vault import Vault
from app.access.wire_keys import WireSecrets, ensure_wire_key, public_keys
from app.domain.errors import InvalidRequest

PREFIX = "REVGQVVMVA=="  # base64 of DEFAULT


@pytest.fixture
def public(session: Session, vault: Vault) -> rsa.RSAPublicKey:
    ensure_wire_key(session, vault)
    key = load_pem_public_key(public_keys(session, ["DEFAULT"])[0]["content"].encode())
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def encrypt(key: rsa.RSAPublicKey, text: str, block: int = 245) -> str:
    data = text.encode()
    chunks = (data[start : start + block] for start in range(0, len(data), block))
    cipher = b"".join(key.encrypt(chunk, PKCS1v15()) for chunk in chunks)
    return PREFIX + base64.b64encode(cipher).decode()


def test_the_published_row_is_what_clients_read(session: Session, vault: Vault) -> None:
    ensure_wire_key(session, vault)
    ensure_wire_key(session, vault)
    [row] = public_keys(session, ["DEFAULT", "OTHER"])
    assert row.keys() == {"name", "description", "content", "cipher_type", "block_size"}
    assert (row["name"], row["cipher_type"], row["block_size"]) == ("DEFAULT", "RSA", 245)
    assert row["content"].startswith("-----BEGIN PUBLIC KEY-----\n")
    assert public_keys(session, ["OTHER"]) == []


@pytest.mark.parametrize("text", ["swordfish", "密码" * 200, "-----BEGIN\n" + "k" * 3000, "a"])
def test_ciphertext_of_any_length_opens(
    session: Session, vault: Vault, public: rsa.RSAPublicKey, text: str
) -> None:
    assert WireSecrets(session, vault).open(encrypt(public, text)) == text
    assert WireSecrets(session, vault).open(encrypt(public, text, block=100)) == text


def test_openssl_on_the_command_line_is_a_client_too(
    session: Session, vault: Vault, tmp_path: Path
) -> None:
    ensure_wire_key(session, vault)
    pem = tmp_path / "public.pem"
    pem.write_text(public_keys(session, ["DEFAULT"])[0]["content"])
    cipher = subprocess.run(
        ["openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", str(pem)],
        input=b"swordfish",
        capture_output=True,
        check=True,
    ).stdout
    text = PREFIX + base64.encodebytes(cipher).decode()  # broken into lines, as base64 prints it
    assert WireSecrets(session, vault).open(text) == "swordfish"


def test_nested_ciphertext_opens(session: Session, vault: Vault, public: rsa.RSAPublicKey) -> None:
    once = encrypt(public, "swordfish")
    assert WireSecrets(session, vault).open(encrypt(public, encrypt(public, once))) == "swordfish"


def test_the_prefix_with_two_letters_exchanged_is_understood(
    session: Session, vault: Vault, public: rsa.RSAPublicKey
) -> None:
    text = encrypt(public, "swordfish").replace(PREFIX, "REGVQVVMVA==")
    assert WireSecrets(session, vault).open(text) == "swordfish"


@pytest.mark.parametrize("text", ["swordfish", "", "REVGQVVMVA", "U00yREVGQVVMVA==abc", "é\n"])
def test_text_without_the_prefix_is_meant_literally(
    session: Session, vault: Vault, text: str
) -> None:
    assert WireSecrets(session, vault).open(text) == text


def broken(public: rsa.RSAPublicKey) -> dict[str, str]:
    good = encrypt(public, "swordfish")
    raw = base64.b64decode(good[len(PREFIX) :])
    foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    oaep = public.encrypt(b"swordfish", OAEP(MGF1(SHA1()), SHA1(), None))
    endless = "swordfish"
    for _ in range(8):
        endless = encrypt(public, endless)
    return {
        "nothing": PREFIX,
        "no base64": PREFIX + "!!!",
        "cut": PREFIX + base64.b64encode(raw[:-1]).decode(),
        "another key": encrypt(foreign, "swordfish"),
        "another padding": PREFIX + base64.b64encode(oaep).decode(),
        "not text": PREFIX + base64.b64encode(public.encrypt(b"\xff\xfe", PKCS1v15())).decode(),
        "too long": PREFIX + "A" * 1_000_000,
        "nested without end": endless,
        "larger than the key": PREFIX + base64.b64encode(b"\xff" * 256).decode(),
    }


def test_what_cannot_be_decrypted_is_refused_naming_the_field_and_nothing_secret(
    session: Session, vault: Vault, public: rsa.RSAPublicKey
) -> None:
    for name, text in broken(public).items():
        with pytest.raises(InvalidRequest, match=r"hosts\[3\].password cannot") as refused:
            WireSecrets(session, vault).open(text, "hosts[3].password")
        assert refused.value.details == {"field": "hosts[3].password"}, name
        assert "swordfish" not in refused.value.message


def test_wrong_ciphertext_never_passes_as_a_password(
    session: Session, vault: Vault, public: rsa.RSAPublicKey
) -> None:
    # with one key alone OpenSSL makes up a plausible short text about once in 400 times
    secrets = WireSecrets(session, vault)
    for _ in range(1000):
        text = PREFIX + base64.b64encode(b"\0" + os.urandom(255)).decode()
        with pytest.raises(InvalidRequest):
            secrets.open(text)


def test_the_private_half_is_not_in_the_database_file(
    session: Session, vault: Vault, public: rsa.RSAPublicKey, database_file: Path
) -> None:
    session.commit()
    assert database_file.stat().st_size
    for file in database_file.parent.glob("hostler.db*"):
        assert b"PRIVATE" not in file.read_bytes()
