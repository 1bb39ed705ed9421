"""What every installation begins with: zone 0 and access point 1."""

from sqlalchemy.orm import Session

from app.models.fleet import AccessPoint, Zone

DIRECT = 0


def ensure_first_zone(session: Session) -> None:
    """Make the zone that is reached directly and its access point, where they are missing."""
    if session.get(AccessPoint, 1) is None:
        session.add(
            AccessPoint(
                id=1,
                name="Default access point",
                description="Hosts fetch packages from the controller that installs them.",
                is_default=True,
            )
        )
        session.flush()
    if session.get(Zone, DIRECT) is None:
        session.add(Zone(id=DIRECT, name="Default Area", access_point_id=1))
        session.flush()
