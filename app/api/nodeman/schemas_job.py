"""What callers of a job's own endpoints send: which jobs, which of its hosts, which new logins."""

from dataclasses import replace
from typing import Any

from marshmallow import ValidationError, post_load

from app.api.nodeman import vocabulary
from app.api.nodeman.fields import (
    Account,
    Asked,
    Flag,
    Id,
    Many,
    Moment,
    Name,
    Object,
    Rows,
    Text,
    Whole,
    Word,
)
from app.api.nodeman.schemas import (
    AUTH_TYPES,
    Condition,
    LoginFields,
    Paged,
    conditions_of,
    ids_of,
    login_of,
    login_problems,
    statuses_of,
    window,
)
from app.domain.addresses import stored_address
from app.domain.commands import LoginSpec
from app.domain.errors import InvalidRequest
from app.jobs.views import JobFilter, TargetFilter

TARGET_KEYS = ("ip", "instance_id", "status", "exclude_instance_ids")
MOST_FILTERS = 1000  # values of one filter of the history


class TargetCondition(Condition):
    """One filter for the hosts of a job."""

    key = Text(required=True, most=64, metadata={"enum": list(TARGET_KEYS)})


class Sort(Asked):
    """By which count to sort the history."""

    head = Word(("total_count", "failed_count", "success_count"))
    sort_type = Word(("ASC", "DEC", "DESC"), load_default="DEC")


class JobList(Paged):
    """Which jobs of the task history."""

    job_id = Many(Id(), most=MOST_FILTERS, load_default=None)
    status = Many(Text(), most=MOST_FILTERS, load_default=None)
    created_by = Many(Text(), most=MOST_FILTERS, load_default=None)
    bk_biz_id = Many(Id(), most=MOST_FILTERS, load_default=None)
    inner_ip_list = Many(Text(), most=MOST_FILTERS, load_default=None)
    job_type = Many(Text(), most=MOST_FILTERS, load_default=None)
    step_type = Many(Text(), most=MOST_FILTERS, load_default=None)
    op_type = Many(Text(), most=MOST_FILTERS, load_default=None)
    policy_name = Many(Text(), most=MOST_FILTERS, load_default=None)
    sort = Object(Sort)
    hide_auto_trigger_job = Flag()
    start_time = Moment(load_default=None, allow_none=True)
    end_time = Moment(load_default=None, allow_none=True)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> JobFilter:
        skip, take = window(asked)
        sort = asked["sort"] or {}
        return JobFilter(
            # there are no policies, so no job is of one
            job_ids=frozenset() if asked["policy_name"] else ids_of(asked["job_id"] or None),
            statuses=statuses_of(asked["status"], vocabulary.JOB_STATUS_OF),
            created_by=frozenset(asked["created_by"] or ()) or None,
            business_ids=ids_of(asked["bk_biz_id"] or None),
            addresses=frozenset(map(stored_address, asked["inner_ip_list"] or ())) or None,
            job_types=frozenset(asked["job_type"] or ()) or None,
            node_kinds=frozenset(asked["step_type"] or ()) or None,
            operations=frozenset(asked["op_type"] or ()) or None,
            since=asked["start_time"],
            until=asked["end_time"],
            sort_by=(sort.get("head") or "").removesuffix("_count"),
            ascending=sort.get("sort_type") == "ASC",
            skip=skip,
            take=take,
        )


class OneJob(Asked):
    """The job, in the path or beside the other parameters."""

    job_id = Id(required=True)


class Details(OneJob, Paged):
    """One job, and which of its hosts."""

    conditions = Rows(TargetCondition, load_default=None)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> tuple[int, TargetFilter]:
        skip, take = window(asked)
        return asked["job_id"], _target_filter(conditions_of(asked["conditions"]), skip, take)


def _target_filter(
    conditions: tuple[tuple[str, tuple[Any, ...]], ...], skip: int, take: int | None
) -> TargetFilter:
    found = TargetFilter(skip=skip, take=take)
    for key, values in conditions:
        texts = frozenset(value for value in values if isinstance(value, str))
        match key:
            case _ if key in TARGET_KEYS and not values:
                continue  # a page without this filter still sends its name
            case "ip":
                found = replace(found, addresses=frozenset(map(stored_address, texts - {""})))
            case "instance_id":
                found = replace(found, instance_ids=texts)
            case "exclude_instance_ids":
                found = replace(found, excluded_ids=texts)
            case "status":
                states = (vocabulary.STATUS_OF[word] for word in texts & set(vocabulary.STATUS_OF))
                found = replace(found, statuses=frozenset(states))
            case _:
                known = ", ".join(TARGET_KEYS)
                raise InvalidRequest(
                    f"conditions: there is no key {key!r}; there are: {known}.", field="conditions"
                )
    return found


class NewLogin(LoginFields):
    """A login for a host that is tried again."""

    bk_host_id = Id(attribute="host_id", required=True)
    auth_type = Word(AUTH_TYPES, required=True)
    account = Account(required=True)
    port = Whole(least=1, most=65535, required=True)


class Instances(Asked):
    """Which instances; none at all means every one that qualifies."""

    instance_id_list = Many(Text(most=256), load_default=None)


class Retry(OneJob, Instances):
    """Which instances to try again, by default all that failed; `hosts` may bring new logins."""

    hosts = Rows(NewLogin, load_default=None)

    @post_load
    def build(self, asked: dict[str, Any], **_more: Any) -> dict[str, Any]:
        return {**asked, "logins": new_logins(asked["hosts"])}


def new_logins(rows: list[dict[str, Any]] | None) -> dict[int, LoginSpec]:
    """New logins by host; each must be whole."""
    logins, problems = {}, {}
    for index, row in enumerate(rows or ()):
        found = login_problems(row, is_required=True)
        if not row.get("host_id"):
            found["bk_host_id"] = ["is missing"]
        if found:
            problems[index] = found
        elif login := login_of(row):
            logins[row["host_id"]] = login
    if problems:
        raise ValidationError({"hosts": problems})
    return logins


class Revoke(OneJob, Instances):
    """Which instances to stop, by default all."""


class OneInstance(OneJob):
    """One host in a job."""

    instance_id = Name(most=256)


class Commands(OneJob):
    """A host that is installed by hand."""

    bk_host_id = Id(required=True)
    is_uninstall = Flag()
