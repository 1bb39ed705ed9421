"""Hostler's own key on hosts: one ed25519 pair per zone."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.access.vault import Vault
from app.models.access import ZoneKey


def standing_public_key(session: Session, vault: Vault, zone_id: int) -> str:
    """The line that goes into authorized_keys; makes the zone's pair when there is none yet."""
    return ensure_zone_key(session, vault, zone_id).public_key


def standing_private_keys(session: Session, vault: Vault, zone_ids: set[int]) -> dict[int, str]:
    """The private halves of those zones that have a pair; makes none, so a reader may ask."""
    rows = session.scalars(select(ZoneKey).where(ZoneKey.zone_id.in_(zone_ids)))
    return {row.zone_id: _open(row, vault) for row in rows}


def ensure_zone_key(session: Session, vault: Vault, zone_id: int) -> ZoneKey:
    """The zone's key pair, made at its first use; whoever else makes it too, one counts."""
    by_zone = select(ZoneKey).where(ZoneKey.zone_id == zone_id)
    return (
        session.scalar(by_zone) or _make(session, vault, zone_id) or session.scalars(by_zone).one()
    )


def _make(session: Session, vault: Vault, zone_id: int) -> ZoneKey | None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    row = ZoneKey(zone_id=zone_id, public_key=f"{public} hostler-zone-{zone_id}")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    row.private_key = vault.seal(private, row.purpose)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return None  # another process was first; its pair counts
    return row


def _open(row: ZoneKey, vault: Vault) -> str:
    return vault.open(row.private_key, row.purpose).decode()
