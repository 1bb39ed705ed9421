"""Which logins the hosts of a job have besides those it brings."""

from collections.abc import Iterable, Sequence

from sqlalchemy.orm import Session

from app.access.credentials import Place, StandingLogin, move_logins
from app.jobs.context import Context
from app.jobs.entries import Pair
from app.models.base import now
from app.models.fleet import Host


def standing_logins(ctx: Context, hosts: Iterable[Host]) -> dict[int, StandingLogin]:
    """Where Hostler's own key may be used among these hosts."""
    if not ctx.settings.standing_access:
        return {}
    return {
        host.id: StandingLogin(zone_id=host.zone_id, account=host.standing_account)
        for host in hosts
        if host.standing_account and host.has_standing_access
    }


def move_named_logins(ctx: Context, session: Session, pairs: Sequence[Pair]) -> None:
    """Another account without a secret means the login that is known, used for it."""
    moved = [
        (pair.host, Place(account=pair.spec.account))
        for pair in pairs
        if pair.host and not pair.brings_login and pair.spec.account
    ]
    places = {host.id: place for host, place in moved}
    standing = standing_logins(ctx, (host for host, _ in moved))
    move_logins(session, ctx.vault, places, now(), standing=standing)
