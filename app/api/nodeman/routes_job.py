"""job/…: submit, look, retry, stop (contracts/nodeman.md §1.2, §2.1–§2.6)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from marshmallow import fields

from app.access.caller import Role, require
from app.api.auth import Call
from app.api.dialect import base_url
from app.api.nodeman import answers_job as answers
from app.api.nodeman import schemas_job, schemas_submit, vocabulary
from app.api.nodeman.endpoint import Endpoints
from app.api.nodeman.routes_report import INSTALLER_PATH
from app.domain.catalogue import CATALOGUE
from app.domain.commands import HostSpec, RetryJob, RevokeJob, SubmitJob, Submitted
from app.domain.errors import AllFiltered, InvalidRequest
from app.hosts.search import HostFilter, businesses_of, find_host_ids
from app.jobs.cancel import revoke_job
from app.jobs.job_queries import find_jobs, get_job, get_task_ids
from app.jobs.report import ManualTicket, manual_ticket
from app.jobs.retry import retry_job, retry_step
from app.jobs.submit import submit_job
from app.jobs.target_queries import get_target, list_targets
from app.jobs.views import JobFilter, JobView, TargetFilter
from app.models.base import reading
from app.models.work import instance_id_of

endpoints = Endpoints()


@endpoints.change(
    "/api/job/install/",
    title="Submit a job with whole host rows",
    takes=schemas_submit.Install,
    gives=fields.Nested(answers.JobStarted),
)
def install(call: Call, command: SubmitJob) -> dict[str, Any]:
    # an address may turn out to be somebody else's: that host is left out, not the whole call
    require(call.caller, Role.OPERATOR, _businesses(call, command.hosts))
    return _submit(call, command)


@endpoints.change(
    "/api/job/operate/",
    title="Submit a job on known hosts",
    takes=schemas_submit.Operate,
    gives=fields.Nested(answers.OperationStarted),
)
def operate(call: Call, asked: tuple[SubmitJob, HostFilter | None]) -> dict[str, Any]:
    command, described = asked
    if described:
        command = replace(command, hosts=_found(call, command, described))
    require(call.caller, Role.OPERATOR, _businesses(call, command.hosts, _places(command.hosts)))
    return _submit(call, command)


@endpoints.read(
    "/api/job/job_list/",
    title="The task history",
    takes=schemas_job.JobList,
    gives=fields.Nested(answers.JobPage),
)
def job_list(call: Call, wanted: JobFilter) -> dict[str, Any]:
    page = find_jobs(call.ctx, replace(wanted, visible=call.caller.businesses))
    rows = [answers.job_row(job, call.language) for job in page.rows]
    return {"total": page.total, "list": rows}


@endpoints.read(
    "/api/job/<job_id>/details/",
    "/api/job/details/",
    title="One job and a page of its hosts, the failed ones first",
    takes=schemas_job.Details,
    gives=fields.Nested(answers.JobDetails),
)
def details(call: Call, asked: tuple[int, TargetFilter]) -> dict[str, Any]:
    job = visible_job(call, asked[0])
    rows, total = _host_rows(call, job, asked[1])
    return answers.job_details(job, get_task_ids(call.ctx, job.id), rows, total, call.language)


@endpoints.change(
    "/api/job/<job_id>/retry/",
    "/api/job/retry/",
    title="Try the failed hosts again",
    takes=schemas_job.Retry,
    gives=fields.List(fields.Integer()),
)
def retry(call: Call, asked: dict[str, Any]) -> list[int]:
    job = changing_job(call, asked["job_id"])
    command = RetryJob(
        job_id=job.id,
        instance_ids=tuple(asked["instance_id_list"] or ()),
        logins=asked["logins"],
        created_by=call.actor,
    )
    retry_job(call.ctx, command)
    return get_task_ids(call.ctx, job.id)


@endpoints.change(
    "/api/job/<job_id>/revoke/",
    "/api/job/revoke/",
    title="Stop what waits or runs",
    takes=schemas_job.Revoke,
    gives=fields.List(fields.Integer()),
)
def revoke(call: Call, asked: dict[str, Any]) -> list[int]:
    job = changing_job(call, asked["job_id"])
    names = tuple(asked["instance_id_list"] or ())
    revoke_job(call.ctx, RevokeJob(job_id=job.id, instance_ids=names, created_by=call.actor))
    return get_task_ids(call.ctx, job.id)


@endpoints.change(
    "/api/job/<job_id>/retry_node/",
    "/api/job/retry_node/",
    title="Run the failed step of one host again",
    takes=schemas_job.OneInstance,
    gives=fields.Nested(answers.RetriedNode),
)
def retry_node(call: Call, asked: dict[str, Any]) -> dict[str, str]:
    job = changing_job(call, asked["job_id"])
    return retried_node(call, job, asked["instance_id"])


@endpoints.read(
    "/api/job/<job_id>/log/",
    "/api/job/log/",
    title="The steps of one host, with what they said",
    takes=schemas_job.OneInstance,
    gives=fields.List(fields.Nested(answers.LogRow)),
)
def log(call: Call, asked: dict[str, Any]) -> list[dict[str, Any]]:
    job = visible_job(call, asked["job_id"])
    return answers.log_rows(get_target(call.ctx, job, asked["instance_id"]), call.language)


@endpoints.change(
    "/api/job/<job_id>/collect_log/",
    "/api/job/collect_log/",
    title="Fetch a host's installer log; here it is in the log already",
    takes=schemas_job.OneInstance,
    gives=fields.Nested(answers.Collected),
)
def collect_log(call: Call, asked: dict[str, Any]) -> dict[str, int]:
    job = changing_job(call, asked["job_id"])
    get_target(call.ctx, job, asked["instance_id"])
    return {"celery_id": -1}


@endpoints.change(
    "/api/job/<job_id>/get_job_commands/",
    "/api/job/get_job_commands/",
    title="What to type on a host that is installed by hand",
    takes=schemas_job.Commands,
    gives=fields.Nested(answers.CommandAnswer),
    also_get=True,
    once=False,  # the command holds a token, which nobody keeps
)
def get_job_commands(call: Call, asked: dict[str, Any]) -> dict[str, Any]:
    job = changing_job(call, asked["job_id"])
    if asked["is_uninstall"]:
        raise InvalidRequest("is_uninstall: nothing is uninstalled by hand; use UNINSTALL_AGENT.")
    ticket = manual_ticket(call.ctx, job.id, asked["bk_host_id"])
    if ticket is None:
        target = get_target(call.ctx, job, instance_id_of(asked["bk_host_id"], "", 0))
        return {"status": vocabulary.STATUS[target.status]}
    return answers.commands(_command(ticket), call.language)


# --- Shared by these views, and by those of the subscription behind a job ------------------------


def visible_job(call: Call, job_id: int) -> JobView:
    """That job, for a caller who may see all of its businesses."""
    job = get_job(call.ctx, job_id)
    require(call.caller, Role.VIEWER, job.business_ids, action=vocabulary.LOOK_AT_JOBS)
    return job


def changing_job(call: Call, job_id: int) -> JobView:
    """That job, for a caller who may change it; the audit names it."""
    job = visible_job(call, job_id)
    call.note(f"job {job.id}", job_id=job.id)
    return job


def retried_node(call: Call, job: JobView, instance_id: str) -> dict[str, str]:
    """Run the failed step of one instance again, and name it."""
    index, step = retry_step(call.ctx, job_id=job.id, instance_id=instance_id)
    name = step.title.in_language(call.language)
    return {"retry_node_id": str(index), "retry_node_name": name}


def _submit(call: Call, command: SubmitJob) -> dict[str, Any]:
    call.note("", job_type=command.job_type, hosts=len(command.hosts))
    submitted = submit_job(
        call.ctx, replace(command, created_by=call.actor, language=call.language)
    )
    call.note(f"job {submitted.job_id}", job_id=submitted.job_id)
    return _started(call, submitted)


def _started(call: Call, submitted: Submitted) -> dict[str, Any]:
    return {
        "job_id": submitted.job_id,
        "job_url": f"{call.ctx.settings.site}/jobs/{submitted.job_id}/",
        "ip_filter": [vocabulary.filtered_host(host) for host in submitted.filtered],
    }


Places = Sequence[tuple[int, str]]


def _businesses(call: Call, hosts: tuple[HostSpec, ...], places: Places = ()) -> set[int]:
    """The businesses a submission names, and those of the hosts it names or that are there."""
    named = {spec.business_id for spec in hosts if spec.business_id is not None}
    if call.caller.businesses is None:
        return named
    ids = [spec.host_id for spec in hosts if spec.host_id is not None]
    with reading(call.ctx.engine) as session:
        return named | businesses_of(session, ids, places)


def _places(hosts: tuple[HostSpec, ...]) -> Places:
    """Each address with the zone it is valid in."""
    return [
        (spec.zone_id, address)
        for spec in hosts
        for address in (spec.inner_ip, spec.inner_ipv6)
        if address
    ]


def _found(call: Call, command: SubmitJob, described: HostFilter) -> tuple[HostSpec, ...]:
    """The hosts a description means, among those the caller may see; AllFiltered when none."""
    kinds = frozenset({CATALOGUE[command.job_type].node.value})
    wanted = replace(described, visible=call.caller.businesses, node_kinds=kinds)
    with reading(call.ctx.engine) as session:
        ids = find_host_ids(session, wanted)
    if not ids:
        raise AllFiltered("No host matches, so nothing was started.", field="exclude_hosts")
    return tuple(HostSpec(host_id=host_id) for host_id in ids)


def _host_rows(call: Call, job: JobView, wanted: TargetFilter) -> tuple[list[dict[str, Any]], int]:
    """A page of a job's hosts; the filtered ones follow all others."""
    page = list_targets(call.ctx, job, wanted)
    rows = [answers.target_row(target, call.language) for target in page.rows]
    left_out = [
        answers.filtered_row(host, job.id) for host in job.filtered if wanted.admits_filtered(host)
    ]
    skip = max(0, wanted.skip - page.total)
    take = None if wanted.take is None else skip + wanted.take - len(rows)
    return rows + left_out[skip:take], page.total + len(left_out)


def _command(ticket: ManualTicket) -> str:
    url = f"{base_url(ticket.address)}{INSTALLER_PATH}?token={ticket.token}"
    # a refusal is a program too, and says why; root needs no sudo, and may have none
    return f"curl -sS '{url}' | $(command -v sudo) python3 -"
