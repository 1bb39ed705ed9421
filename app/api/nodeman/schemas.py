"""What callers send in more than one place: pages, logins, and which hosts they mean."""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError

from app.access.credentials import MAX_DAYS
from app.api.nodeman import vocabulary
from app.api.nodeman.fields import (
    MOST_VALUES,
    Account,
    Anything,
    Asked,
    Id,
    Many,
    Rows,
    Secret,
    Text,
    Whole,
    Word,
)
from app.domain.commands import AuthType, LoginSpec
from app.hosts.search import CONDITIONS, HostFilter

AUTH_TYPES = (*AuthType, "TJJ_PASSWORD")
AUTOMATIC = -1
MAX_PAGE = 2**31 - 1
# row fields that become config values of the agent, where the job type takes them
VALUES = ("bt_speed_limit", "peer_exchange_switch_for_agent", "enable_compression", "data_path")


class Paged(Asked):
    """A page, counted from 1; a page size of -1 means everything; `start` wins over `page`."""

    page = Whole(least=1, most=MAX_PAGE, empty=1, load_default=1)
    pagesize = Whole(least=-1, empty=10, load_default=10)
    start = Whole(least=1, most=MAX_PAGE, load_default=None)


def window(asked: Mapping[str, Any]) -> tuple[int, int | None]:
    """Which rows a page means: how many to skip, how many to take (None: all)."""
    size = asked["pagesize"]
    if size == -1:
        return (asked["start"] or 1) - 1, None
    return (asked["start"] or ((asked["page"] or 1) - 1) * size + 1) - 1, size


class LoginFields(Asked):
    """How to log in on a host."""

    auth_type = Word(AUTH_TYPES)
    account = Account()
    port = Whole(least=1, most=65535)
    password = Secret()
    key = Secret()
    retention = Whole(
        least=0, most=MAX_DAYS, metadata={"description": "days; 0: until the job ends"}
    )


def login_problems(row: Mapping[str, Any], is_required: bool) -> dict[str, list[str]]:
    """What is missing for a login in a row, by field; one that is not required may be absent."""
    auth_type = row.get("auth_type")
    if auth_type == "TJJ_PASSWORD":
        return {"auth_type": ["TJJ_PASSWORD needs a password vault, and none is configured"]}
    secret = "key" if auth_type == AuthType.KEY else "password"
    if not (is_required or row.get(secret)):
        return {}
    needed = ["auth_type", "account", "port", *([secret] if is_required and auth_type else [])]
    return {name: ["is missing"] for name in needed if not row.get(name)}


def login_of(row: Mapping[str, Any]) -> LoginSpec | None:
    """The login in a row, if it brings a secret."""
    auth_type = row.get("auth_type")
    secret = row.get("key" if auth_type == AuthType.KEY else "password")
    if not (auth_type and secret and row.get("account") and row.get("port")):
        return None
    return LoginSpec(
        account=row["account"],
        port=row["port"],
        auth_type=AuthType(auth_type),
        password=secret if auth_type == AuthType.PASSWORD else None,
        key=secret if auth_type == AuthType.KEY else None,
        retention=row.get("retention"),
    )


class Condition(Asked):
    """One filter: a key, and the value or values it may have."""

    value = Anything(required=True, allow_none=True)


class HostCondition(Condition):
    """One filter for hosts; a key that is not among these is refused by the search."""

    key = Text(required=True, most=64, metadata={"enum": sorted(CONDITIONS)})


class Selecting(Asked):
    """Which hosts, by what is known of them."""

    bk_biz_id = Many(Id(), load_default=None)
    bk_cloud_id = Many(Id(), load_default=None)
    bk_host_id = Many(Id(), load_default=None)
    version = Many(Text(), load_default=None)
    conditions = Rows(HostCondition, load_default=None)
    exclude_hosts = Many(Id(), load_default=None)


def host_filter(asked: Mapping[str, Any]) -> HostFilter:
    """The selection as a filter; conditions with keys we do not know are refused by name."""
    return HostFilter(
        host_ids=ids_of(asked["bk_host_id"]),
        excluded_ids=ids_of(asked["exclude_hosts"]) or frozenset(),
        business_ids=ids_of(asked["bk_biz_id"] or None),
        zone_ids=ids_of(asked["bk_cloud_id"] or None),
        versions=frozenset(asked["version"] or ()) or None,
        conditions=conditions_of(asked["conditions"]),
    )


def ids_of(values: list[int | None] | None) -> frozenset[int] | None:
    """These ids; None, which means any, stays None."""
    return None if values is None else frozenset(value for value in values if value is not None)


def conditions_of(rows: list[dict[str, Any]] | None) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Conditions as pairs of key and values; one value alone counts as a list of one."""
    found = []
    for index, row in enumerate(rows or ()):
        if "key" not in row:
            raise ValidationError({"conditions": {index: {"key": ["is missing"]}}})
        value = row.get("value")
        found.append((row["key"], tuple(value) if isinstance(value, list) else (value,)))
    if sum(len(values) for _, values in found) > MOST_VALUES:
        raise ValidationError(f"have more than {MOST_VALUES} values", field_name="conditions")
    return tuple(found)


def statuses_of(
    words: list[str] | None, table: Mapping[str, Any] = vocabulary.STATUS_OF
) -> frozenset[Any] | None:
    """The states these words mean; a word that means none matches nothing."""
    return frozenset(table[word] for word in words if word in table) if words else None
