"""Rows survive a migration, and what it adds to them is right."""

from alembic import command
from sqlalchemy import Engine

from app.migrations import config_for, upgrade
from app.models.access import Credential
from app.models.base import transaction
from app.models.fleet import AccessPoint, Business, Host, Zone


def test_logins_and_standing_access_stay_good_where_they_were_used(engine: Engine) -> None:
    upgrade(engine)
    addresses = ({"inner_ip": "10.0.0.7"}, {"inner_ip": "10.0.0.8", "login_ip": "10.9.9.9"})
    with transaction(engine) as session:
        session.add_all([Business(id=2, name="two"), AccessPoint(id=1, name="one")])
        session.flush()
        session.add(Zone(id=0, name="direct", access_point_id=1))
        session.flush()
        for port, named in enumerate(addresses, start=22):
            host = Host(business_id=2, zone_id=0, access_point_id=1, port=port, **named)
            host.standing_account = "root"
            session.add(host)
            session.flush()
            secret = {"kind": "password", "account": "root", "secret": b"sealed"}
            session.add(Credential(host_id=host.id, port=port, **secret))

    with engine.connect() as connection:
        command.downgrade(config_for(connection), "0002")
        connection.commit()
    upgrade(engine)

    with transaction(engine) as session:
        hosts = session.query(Host).order_by(Host.id).all()
        assert [host.has_standing_access for host in hosts] == [True, True]
        given = [login.address for login in session.query(Credential).order_by(Credential.id)]
        assert given == [host.login_address for host in hosts] == ["10.0.0.7", "10.9.9.9"]
