"""The program that installs one waiting host by hand."""

from typing import Any

from sqlalchemy.orm import Session

from app.domain.catalogue import CATALOGUE
from app.domain.errors import PackageMissing
from app.jobs.context import Context
from app.jobs.prepare import URL_LIFE, package_base
from app.jobs.report import part_of_token
from app.models.base import reading
from app.models.fleet import AccessPoint, Host
from app.models.package import Package
from app.models.work import Part, Subscription, Target, Task
from app.packages.choose import choose_packages, describe_candidate
from app.packages.installer import make_installer
from app.packages.sign import sign_url, signing_key


def installer_of(ctx: Context, token: str, report_to: str) -> str:
    """What the host of this token runs; it reports there. Raises Forbidden, or PackageMissing."""
    with reading(ctx.engine) as session:
        part = part_of_token(session, token)
        return make_installer(_arguments(ctx, session, part), report_to, token)


def _arguments(ctx: Context, session: Session, part: Part) -> dict[str, Any]:
    host = session.get_one(Host, part.host_id)
    point = session.get_one(AccessPoint, host.access_point_id)
    base, key = package_base(ctx, point, host), signing_key(ctx.settings.key_file)
    return {
        "setup_path": point.setup_path or ctx.settings.setup_path,
        "service_manager": ctx.settings.service_manager,
        "deadline": int(CATALOGUE[part.job_type].host_deadline.total_seconds()),
        "config": _config(session, part, host),
        "packages": [
            describe_candidate(package, sign_url(base, package.sha256, key, URL_LIFE))
            for package in _packages(session, part)
        ],
    }


def _config(session: Session, part: Part, host: Host) -> dict[str, Any]:
    variables = CATALOGUE[part.job_type].variables
    target = session.get_one(Target, part.target_id)
    return {
        "address": host.inner_ip or host.inner_ipv6 or "",
        "zone_id": host.zone_id,
        "host_id": host.id,
        **{name: value for name, value in host.values.items() if name in variables},
        **target.values,
    }


def _packages(session: Session, part: Part) -> list[Package]:
    task = session.get_one(Task, part.task_id)
    stage = session.get_one(Subscription, task.subscription_id).stages[part.stage]
    kind = CATALOGUE[part.job_type].node.value.lower()
    version, name = stage.get("package_version"), stage.get("package_name")
    packages = choose_packages(session, kind, "LINUX", version, name)
    if not packages:
        raise PackageMissing(f"There is no {kind} package any more; add one and try again.")
    return packages
