"""A submission is written whole or not at all, and says of every host what became of it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from app.domain.commands import (
    HostSpec,
    NextStage,
    OnBusy,
    SubmitJob,
    Submitted,
)
from app.domain.errors import (
    AccessPointNotFound,
    AllFiltered,
    HostsBusy,
    InstallChannelNotFound,
    InvalidRequest,
    LoginMissing,
    PackageMissing,
    ZoneNotFound,
)
from app.domain.states import JobStatus, Status, SubtaskStatus
from app.jobs.context import Context
from app.jobs.submit import submit_job
from app.models.access import Credential
from app.models.base import reading, transaction
from app.models.fleet import Business, Host
from app.models.package import Package
from app.models.work import Job, Part, RunPart, Subscription, Subtask, Target
from tests.jobs.conftest import a_host, a_login, a_package, claim_next, count, parts_of, runs_of

Install = Callable[..., Submitted]


def test_hosts_become_rows_parts_and_one_run(ctx: Context, install: Install) -> None:
    submitted = install(3)

    with reading(ctx.engine) as session:
        assert count(session, Host) == 3
        assert count(session, Target) == 3
        assert session.get_one(Job, submitted.job_id).status is JobStatus.PENDING
        assert [b.id for b in session.scalars(select(Business))] == [2]
    assert {part.status for part in parts_of(ctx, submitted.job_id)} == {Status.PENDING}
    assert [run.attempt for run in runs_of(ctx, submitted.job_id)] == [1]


def test_the_queue_carries_the_run_id_and_nothing_else(ctx: Context, install: Install) -> None:
    install(1)

    [job] = ctx.queue.rq.jobs
    assert job.kwargs == {"run_id": 1}
    assert job.timeout == -1


def test_many_hosts_are_cut_into_slices(ctx: Context, install: Install) -> None:
    submitted = install(250)

    with reading(ctx.engine) as session:
        subtasks = session.scalars(select(Subtask).order_by(Subtask.series)).all()
        sizes = [
            len(session.scalars(select(Part).where(Part.subtask_id == s.id)).all())
            for s in subtasks
        ]
    assert sizes == [100, 100, 50]
    assert [s.status for s in subtasks] == [SubtaskStatus.READY] * 3
    assert len(runs_of(ctx, submitted.job_id)) == 3


def test_a_secret_is_nowhere_in_clear(ctx: Context, install: Install) -> None:
    install([a_host(1, a_login("canary-Passw0rd!"))])

    with reading(ctx.engine) as session:
        [credential] = session.scalars(select(Credential)).all()
        assert b"canary" not in (credential.secret or b"")
    for path in ctx.settings.data_dir.rglob("*"):
        assert not path.is_file() or b"canary-Passw0rd" not in path.read_bytes()
    for key in ctx.queue.connection.scan_iter():
        dumped = ctx.queue.connection.dump(key) or b""
        assert b"canary" not in dumped


def test_a_host_named_twice_takes_part_once(ctx: Context, install: Install) -> None:
    submitted = install([a_host(1), a_host(1), a_host(2)])

    assert len(parts_of(ctx, submitted.job_id)) == 2
    [filtered] = submitted.filtered
    assert "duplicate" in filtered.reason
    assert filtered.inner_ip == "10.9.0.2"


@pytest.mark.parametrize("is_last", [False, True])
def test_a_row_that_cannot_take_part_is_no_reason_against_its_double(
    ctx: Context, install: Install, is_last: bool
) -> None:
    rows = [a_host(1), a_host(1, os_type="WINDOWS")]

    submitted = install(rows if is_last else rows[::-1])

    assert len(parts_of(ctx, submitted.job_id)) == 1
    [filtered] = submitted.filtered
    assert "WINDOWS" in filtered.reason


def test_the_same_address_in_two_families_is_one_host(ctx: Context, install: Install) -> None:
    install([a_host(1, inner_ipv6="fd00::1")])

    submitted = install([a_host(1, inner_ip=None, inner_ipv6="fd00::1")])

    with reading(ctx.engine) as session:
        assert count(session, Host) == 1
    assert len(parts_of(ctx, submitted.job_id)) == 1


def test_addresses_of_different_hosts_are_a_contradiction(install: Install) -> None:
    install([a_host(1), a_host(2, inner_ip=None, inner_ipv6="fd00::2")])

    with pytest.raises(AllFiltered) as refusal:
        install([a_host(1, inner_ipv6="fd00::2")])

    [filtered] = refusal.value.details["filtered"]
    assert "different hosts" in filtered.reason


def test_a_host_of_another_business_is_left_alone(ctx: Context, install: Install) -> None:
    install([a_host(1)])

    with pytest.raises(AllFiltered) as refusal:
        install([a_host(1, business_id=3)])

    assert "belongs to another business" in refusal.value.details["filtered"][0].reason
    with reading(ctx.engine) as session:
        assert count(session, Job) == 1
        assert session.scalars(select(Host.business_id)).all() == [2]


def test_names_of_hosts_of_two_businesses_tell_nothing_of_either(install: Install) -> None:
    install([a_host(1), a_host(2, business_id=3)])

    with pytest.raises(AllFiltered) as refusal:
        install([HostSpec(host_id=1, inner_ip="10.9.0.3")], job_type="RESTART_AGENT")

    [filtered] = refusal.value.details["filtered"]
    assert filtered.reason == "10.9.0.3 belongs to another business"
    assert (filtered.host_id, filtered.business_id) == (1, None)


def test_an_os_without_a_role_is_filtered_and_the_reason_says_which_has_one(
    install: Install,
) -> None:
    submitted = install([a_host(1), a_host(2, os_type="WINDOWS")])

    [filtered] = submitted.filtered
    assert filtered.inner_ip == "10.9.0.3"
    assert "LINUX" in filtered.reason


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"zone_id": 7}, ZoneNotFound),
        ({"access_point_id": 99}, AccessPointNotFound),
        ({"install_channel_id": 7}, InstallChannelNotFound),
    ],
)
def test_a_place_that_is_not_there_refuses_the_request(
    ctx: Context, install: Install, change: dict[str, int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        install([a_host(1), a_host(2, **change)])

    with reading(ctx.engine) as session:
        assert count(session, Host) == 0


def test_no_hosts_is_no_request(ctx: Context) -> None:
    with pytest.raises(InvalidRequest, match="hosts is empty"):
        submit_job(ctx, SubmitJob(job_type="INSTALL_AGENT", hosts=(), created_by="alice"))


def test_without_a_package_the_refusal_says_what_to_add(ctx: Context, install: Install) -> None:
    with transaction(ctx.engine) as session:
        for package in session.scalars(select(Package)):
            session.delete(package)

    with pytest.raises(PackageMissing, match="hostler package add"):
        install(1)


def test_a_version_nobody_registered_is_refused(install: Install) -> None:
    with pytest.raises(PackageMissing, match=r"version 9\.9"):
        install(1, package_version="9.9")


def test_operate_needs_a_known_host_with_an_agent(ctx: Context, install: Install) -> None:
    install(1)

    with pytest.raises(AllFiltered) as refusal:
        operate(ctx, "RESTART_AGENT", 1)

    assert "no agent is installed" in refusal.value.details["filtered"][0].reason


def test_without_any_login_the_hosts_are_named(ctx: Context, install: Install) -> None:
    install(1)
    with transaction(ctx.engine) as session:
        for credential in session.scalars(select(Credential)):
            session.delete(credential)
        session.get_one(Host, 1).agent_version = "1.0.0"

    with pytest.raises(LoginMissing, match=r"10\.9\.0\.1"):
        operate(ctx, "RESTART_AGENT", 1)


def test_a_refused_busy_host_says_who_holds_it(ctx: Context, install: Install) -> None:
    first = install(2)
    claim_next(ctx)

    with pytest.raises(HostsBusy) as refusal:
        install(1, on_busy=OnBusy.REFUSE)

    assert refusal.value.details["hosts"] == {"10.9.0.1": first.job_id}


def test_remove_forgets_the_host_without_a_worker(ctx: Context, install: Install) -> None:
    install(1)
    ctx.queue.connection.flushall()

    submitted = operate(ctx, "REMOVE_AGENT", 1)

    with reading(ctx.engine) as session:
        assert session.get_one(Job, submitted.job_id).status is JobStatus.SUCCESS
        assert session.get_one(Host, 1).is_forgotten
        assert session.get_one(Host, 1).agent_status == "REMOVED"
    assert ctx.queue.rq.jobs == []


def test_a_forgotten_host_can_be_installed_again(ctx: Context, install: Install) -> None:
    install(1)
    operate(ctx, "REMOVE_AGENT", 1)

    install(1)

    with reading(ctx.engine) as session:
        assert count(session, Host) == 1
        assert not session.get_one(Host, 1).is_forgotten


def test_without_redis_the_job_is_accepted_all_the_same(ctx: Context, tmp_path: object) -> None:
    from app.queue import WorkQueue

    lonely = replace(ctx, queue=WorkQueue(f"unix://{tmp_path}/nobody.sock"))

    submitted = submit_job(
        lonely, SubmitJob(job_type="INSTALL_AGENT", hosts=(a_host(1),), created_by="alice")
    )

    with reading(ctx.engine) as session:
        assert session.scalars(select(RunPart.part_id)).all() == [1]
        assert session.get(Job, submitted.job_id)


def operate(ctx: Context, job_type: str, *host_ids: int) -> Submitted:
    hosts = tuple(HostSpec(host_id=host_id) for host_id in host_ids)
    return submit_job(ctx, SubmitJob(job_type=job_type, hosts=hosts, created_by="alice"))


def test_a_host_another_job_waits_for_is_busy_too(install: Install) -> None:
    first = install(1)

    with pytest.raises(HostsBusy) as refusal:
        install(1, on_busy=OnBusy.REFUSE)

    assert refusal.value.details["hosts"] == {"10.9.0.1": first.job_id}


def test_a_package_name_nobody_registered_is_refused(install: Install) -> None:
    with pytest.raises(PackageMissing, match="agent package other"):
        install(1, package_name="other")


def test_a_stage_is_refused_values_it_does_not_take(install: Install) -> None:
    then = (NextStage(job_type="RESTART_AGENT", values={"bt_speed_limit": 5}),)

    with pytest.raises(InvalidRequest, match="RESTART_AGENT takes no bt_speed_limit"):
        install(1, then=then)


@pytest.mark.parametrize(
    ("name", "meant"), [("gse_agent", None), ("gse_proxy", None), ("agent", "agent")]
)
def test_the_names_of_the_published_packages_mean_whichever_there_is(
    ctx: Context, install: Install, name: str, meant: str | None
) -> None:
    install(1, package_name=name)

    assert package_names(ctx) == [meant]


def test_a_package_of_a_published_name_is_meant_by_it(ctx: Context, install: Install) -> None:
    with transaction(ctx.engine) as session:
        session.add(a_package("0.5.0", name="gse_agent"))

    install(1, package_name="gse_agent")

    assert package_names(ctx) == ["gse_agent"]
    with pytest.raises(PackageMissing, match="gse_agent of version 7"):
        install([a_host(2)], package_name="gse_agent", package_version="7")


def package_names(ctx: Context) -> list[str | None]:
    with reading(ctx.engine) as session:
        subscriptions = session.scalars(select(Subscription))
        return [stage["package_name"] for each in subscriptions for stage in each.stages]
