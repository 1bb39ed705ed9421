"""Whoever calls, and what they may do."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from app.domain.errors import Forbidden, InvalidRequest
from app.models.access import App, User


class Role(StrEnum):
    """How much a caller may do; each role may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A signed-in program or person."""

    name: str
    role: Role
    businesses: frozenset[int] | None  # None: all of them
    kind: Literal["app", "user"]
    acting_for: str | None = None  # the user a program named; it says who asked, it grants nothing

    @property
    def actor(self) -> str:
        """The name people know this work by."""
        return self.acting_for or self.name

    def has_role(self, role: Role) -> bool:
        return RANK[self.role] >= RANK[role]

    def sees(self, business_id: int) -> bool:
        return self.businesses is None or business_id in self.businesses


def require(caller: Caller, role: Role, businesses: Iterable[int] = (), **details: object) -> None:
    """Refuse unless the caller has this role in all of these businesses; details go along."""
    if not caller.has_role(role):
        raise Forbidden(
            f"{caller.name} is {caller.role}; this takes {role}. An admin can change that.",
            role=str(role),
            **details,
        )
    closed = sorted({business for business in businesses if not caller.sees(business)})
    if closed:
        raise Forbidden(
            f"{caller.name} has no access to business {', '.join(map(str, closed))}.",
            businesses=closed,
            **details,
        )


def read_role(role: str) -> Role:
    """The role of that name; anything else is refused by name."""
    try:
        return Role(role)
    except ValueError:
        known = ", ".join(Role)
        raise InvalidRequest(f"There is no role {role}; there are {known}.") from None


def change_rights(
    row: App | User,
    *,
    role: str | None = None,
    businesses: Iterable[int] | None = None,
    all_businesses: bool = False,
    is_active: bool | None = None,
) -> None:
    """Change what a program or a person may do; what is not named stays."""
    if all_businesses and businesses:
        raise InvalidRequest("Some businesses, or all of them: not both.")
    row.role = read_role(role) if role else row.role
    row.is_active = row.is_active if is_active is None else is_active
    if all_businesses or businesses is not None:
        row.businesses = None if all_businesses else read_scope(businesses)


def read_scope(businesses: Iterable[int] | None) -> list[int] | None:
    """Businesses as a row keeps them."""
    return None if businesses is None else sorted(set(businesses))
