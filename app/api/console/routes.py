"""The pages about jobs, and what can be done to one from there."""

from typing import Any, cast

from flask import Blueprint, Flask, g, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from app.access.caller import Caller, Role, require
from app.api.auth import Call, audited
from app.api.console import dashboard, sign_in
from app.api.console.views import (
    HostRow,
    clock,
    filtered_row,
    host_row,
    job_row,
    moment,
    step_rows,
)
from app.api.dialect import language, understand
from app.domain import errors
from app.domain.commands import RetryJob, RevokeJob
from app.domain.errors import HostlerError
from app.domain.states import Status
from app.jobs.cancel import revoke_job
from app.jobs.context import Context
from app.jobs.job_queries import find_jobs, get_job
from app.jobs.retry import retry_job
from app.jobs.target_queries import get_target, list_targets
from app.jobs.views import JobFilter, JobView, TargetFilter

JOBS_A_PAGE, HOSTS_A_PAGE = 50, 100
HTTP_STATUS = {
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unavailable: 503,
}


def create_blueprint(ctx: Context) -> Blueprint:
    """Everything under /, /login, /jobs and /rq; registering it mounts the dashboard as well."""
    console = Blueprint(
        "console",
        __name__,
        template_folder="templates",
        static_folder="static",
        static_url_path="/static/console",
    )
    console.add_app_template_filter(moment, "moment")
    console.add_app_template_filter(clock, "clock")
    sign_in.install(console, ctx)
    install(console, ctx)
    console.record(lambda state: dashboard.mount(cast(Flask, state.app), ctx))
    return console


def install(console: Blueprint, ctx: Context) -> None:
    """Add the pages about jobs."""

    @console.get("/")
    def index() -> AnyResponse:
        return redirect(url_for("console.jobs"))

    @console.get("/jobs/")
    def jobs() -> str:
        page = _page()
        found = find_jobs(
            ctx,
            JobFilter(
                visible=_caller().businesses, skip=(page - 1) * JOBS_A_PAGE, take=JOBS_A_PAGE
            ),
        )
        listed = [job_row(row, language()) for row in found.rows]
        return render_template(
            "console/jobs.html",
            listed=listed,
            page=page,
            last_page=_last_page(found.total, JOBS_A_PAGE),
        )

    @console.get("/jobs/<int:job_id>/")
    def job(job_id: int) -> str:
        view, page, status = _visible_job(ctx, job_id, Role.VIEWER), _page(), _status()
        hosts, total = _hosts(ctx, view, status, page)
        return render_template(
            "console/job.html",
            job=job_row(view, language()),
            hosts=hosts,
            status=status,
            may_change=_caller().has_role(Role.OPERATOR),
            page=page,
            last_page=_last_page(total, HOSTS_A_PAGE),
        )

    @console.get("/jobs/<int:job_id>/host/")
    def host(job_id: int) -> str:
        view = _visible_job(ctx, job_id, Role.VIEWER)
        target = get_target(ctx, view, request.args.get("instance_id", ""))
        return render_template(
            "console/host.html",
            job=job_row(view, language()),
            host=host_row(target, language()),
            steps=list(step_rows(target, language())),
        )

    @console.post("/jobs/<int:job_id>/retry")
    def retry(job_id: int) -> AnyResponse:
        with audited(ctx, "job.retry") as calls:
            calls.append(_call(ctx, job_id))
            _visible_job(ctx, job_id, Role.OPERATOR)
            retry_job(
                ctx,
                RetryJob(job_id=job_id, instance_ids=_instances(), created_by=_caller().name),
            )
        return redirect(url_for("console.job", job_id=job_id))

    @console.post("/jobs/<int:job_id>/revoke")
    def revoke(job_id: int) -> AnyResponse:
        with audited(ctx, "job.revoke") as calls:
            calls.append(_call(ctx, job_id))
            _visible_job(ctx, job_id, Role.OPERATOR)
            revoke_job(
                ctx,
                RevokeJob(job_id=job_id, instance_ids=_instances(), created_by=_caller().name),
            )
        return redirect(url_for("console.job", job_id=job_id))

    @console.errorhandler(Exception)
    def explain(error: Exception) -> tuple[str, int]:
        error = understand(error)
        hosts = error.details.get("hosts") if isinstance(error, HostlerError) else None
        page = render_template(
            "console/problem.html", problem=_sentence(error), hosts=hosts, back=_back()
        )
        return page, _http_status(error)


def _caller() -> Caller:
    caller: Caller = g.caller
    return caller


def _call(ctx: Context, job_id: int) -> Call:
    return Call(ctx, _caller(), {}, language(), f"job {job_id}", {"instances": _instances()})


def _visible_job(ctx: Context, job_id: int, role: Role) -> JobView:
    view = get_job(ctx, job_id)
    require(_caller(), role, view.business_ids)
    return view


def _hosts(
    ctx: Context, job: JobView, status: Status | None, page: int
) -> tuple[list[HostRow], int]:
    """One page of the job's hosts, those that were left out at its very end."""
    skip = (page - 1) * HOSTS_A_PAGE
    wanted = TargetFilter(
        statuses=frozenset({status}) if status else None, skip=skip, take=HOSTS_A_PAGE
    )
    found = list_targets(ctx, job, wanted)
    rows = [host_row(target, language()) for target in found.rows]
    left_out = job.filtered if status in (None, Status.IGNORED) else ()
    start = max(0, skip - found.total)
    rows += [filtered_row(host) for host in left_out[start : start + HOSTS_A_PAGE - len(rows)]]
    return rows, found.total + len(left_out)


def _page() -> int:
    asked = request.args.get("page", 1, type=int)
    return min(max(asked, 1), 10**6)


def _last_page(total: int, size: int) -> int:
    return max(1, -(-total // size))


def _status() -> Status | None:
    asked = request.args.get("status")
    return Status(asked) if asked in set(Status) else None


def _instances() -> tuple[str, ...]:
    return tuple(request.form.getlist("instance_id"))


def _back() -> str:
    job_id = (request.view_args or {}).get("job_id")
    is_page = request.method == "GET"
    return (
        url_for("console.jobs") if is_page or not job_id else url_for("console.job", job_id=job_id)
    )


def _sentence(error: Any) -> str:
    if isinstance(error, HostlerError):
        return error.message
    if isinstance(error, HTTPException):
        return error.description or error.name
    return "Something broke on our side; the log has it under this request's id."


def _http_status(error: Exception) -> int:
    if isinstance(error, HTTPException):
        return error.code or 500
    return next((HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS), 500)
