"""Tasks as graphs, and the log of a subtask in any pieces."""

import itertools
import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update

from app.domain.commands import HostSpec, RetryJob, SubmitJob
from app.domain.errors import SubtaskNotFound, TaskNotFound
from app.domain.states import Cause, Operation, RunStatus, Status, SubtaskStatus, TaskStatus
from app.jobs.context import Context
from app.jobs.graph_log import attempt_logs, read_log, separator
from app.jobs.graph_queries import (
    find_failed_hosts,
    get_subtask,
    get_task,
    get_task_outline,
)
from app.jobs.graph_views import TaskFilter
from app.jobs.retry import retry_job
from app.jobs.submit import submit_job
from app.jobs.task_queries import find_creators, find_tasks
from app.models.base import Base, now, transaction
from app.models.work import LogChunk, Run
from tests.api.given import play
from tests.api.ocp import submit_stages
from tests.jobs.conftest import a_host

REFUSED = ["auth", "wrong password"]


# --- The graph


def test_a_task_shows_its_stages_slices_and_edges(ctx: Context) -> None:
    cut = replace(ctx, settings=replace(ctx.settings, slice_size=2))
    task_id = submit_stages(cut, 4, "INSTALL_AGENT", "RESTART_AGENT")

    task = get_task(ctx, task_id)

    assert [(s.series, s.stage, s.slice) for s in task.subtasks] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 1, 0),
        (3, 1, 1),
    ]
    first, second, third, fourth = task.subtasks
    assert (first.upstreams, first.downstreams) == ((), (third.id,))
    assert (fourth.upstreams, fourth.downstreams) == ((second.id,), ())
    assert [dict(s.hosts) for s in task.subtasks] == [{Status.PENDING: 2}] * 4
    order = [s.id for s in task.in_order()]
    assert order.index(first.id) < order.index(third.id)
    assert first.timeout == 1800


def test_a_stage_that_is_not_cut_says_so(ctx: Context) -> None:
    task = get_task(ctx, submit_stages(ctx, 1, "INSTALL_AGENT"))

    assert [s.slice for s in task.subtasks] == [-1]


def test_hosts_causes_and_attempts_are_told(ctx: Context) -> None:
    task_id = submit_stages(ctx, 3, "INSTALL_AGENT")
    play(ctx, {"10.9.0.1": "ok", "10.9.0.2": REFUSED, "10.9.0.3": ["unreachable", "no route"]})

    task, subtask = get_subtask(ctx, task_id, 1)

    assert task.status is TaskStatus.FAILED
    assert subtask.status is SubtaskStatus.FAILED
    assert dict(subtask.hosts) == {Status.SUCCESS: 1, Status.FAILED: 2}
    assert dict(subtask.causes) == {Cause.AUTH: 1, Cause.UNREACHABLE: 1}
    assert [(a.number, a.outcome, a.status) for a in subtask.attempts] == [
        (1, "failed", RunStatus.ENDED)
    ]
    assert subtask.retryable == 2
    assert [(h.label, h.cause, h.reason) for h in find_failed_hosts(ctx, 1)] == [
        ("10.9.0.2", Cause.AUTH, "wrong password"),
        ("10.9.0.3", Cause.UNREACHABLE, "no route"),
    ]


def test_a_newer_task_takes_the_failed_hosts_over(ctx: Context) -> None:
    task_id = submit_stages(ctx, 2, "INSTALL_AGENT")
    play(ctx, {"10.9.0.1": "ok", "10.9.0.2": REFUSED})
    newer = retry_job(ctx, RetryJob(job_id=1, created_by="bob"))

    task = get_task(ctx, task_id)

    assert task.newer_task_id == newer
    assert task.holds_hosts  # the one that is OK
    assert task.subtasks[0].retryable == 0
    assert get_task(ctx, newer).newer_task_id is None


def test_what_is_not_there_is_not_found(ctx: Context) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    submit_stages(ctx, 1, "INSTALL_AGENT")

    for look in (get_task, get_task_outline):
        with pytest.raises(TaskNotFound):
            look(ctx, 99)
    with pytest.raises(SubtaskNotFound):
        get_subtask(ctx, 1, 2)  # it is task 2's
    with pytest.raises(TaskNotFound):
        get_subtask(ctx, 99, 1)


def test_only_what_has_begun_prohibits_a_rollback(ctx: Context) -> None:
    task_id = submit_stages(ctx, 1, "INSTALL_AGENT", "UNINSTALL_AGENT")

    assert not get_task(ctx, task_id).prohibits_rollback
    play(ctx, {"10.9.0.1": "ok"})
    assert not get_task(ctx, task_id).prohibits_rollback
    play(ctx, {"10.9.0.1": REFUSED})

    task = get_task(ctx, task_id)
    assert task.prohibits_rollback
    assert [s.prohibits_rollback for s in task.subtasks] == [False, True]


# --- The list


@pytest.fixture
def three(ctx: Context) -> Context:
    """Task 1 failed in business 2, task 2 waits in 3, task 3 waits in 2 and 3."""

    def submit(by: str, *hosts: tuple[int, int]) -> None:
        rows = tuple(a_host(n, business_id=business) for n, business in hosts)
        submit_job(ctx, SubmitJob(job_type="INSTALL_AGENT", hosts=rows, created_by=by))

    submit("alice", (0, 2))
    play(ctx, {"10.9.0.1": REFUSED})
    submit("bob", (1, 3))
    submit("alice", (2, 2), (3, 3))
    return ctx


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (TaskFilter(), [3, 2, 1]),
        (TaskFilter(name="INSTALL"), [3, 2, 1]),
        (TaskFilter(name="in_tall"), []),  # no pattern characters
        (TaskFilter(statuses=frozenset({TaskStatus.FAILED})), [1]),
        (TaskFilter(business_id=2), [3, 1]),
        (TaskFilter(business_id=9), []),
        (TaskFilter(business_name="business 3"), [3, 2]),
        (TaskFilter(business_name="nobody's"), []),
        (TaskFilter(host_id=2), [2]),
        (TaskFilter(visible=frozenset({2})), [1]),
        (TaskFilter(visible=frozenset({2, 3})), [3, 2, 1]),
        (TaskFilter(visible=frozenset()), []),
        (TaskFilter(nothing=True), []),
        (TaskFilter(sort=(("id", True),)), [1, 2, 3]),
        (TaskFilter(sort=(("created_by", True), ("id", False))), [3, 1, 2]),
        (TaskFilter(sort=(("status", True),)), [1, 2, 3]),
        (TaskFilter(skip=1, take=1), [2]),
    ],
)
def test_tasks_are_found_by(three: Context, wanted: TaskFilter, found: list[int]) -> None:
    page = find_tasks(three, wanted)

    assert [task.id for task in page.rows] == found
    if wanted.take == 10:
        assert page.total == len(found)
    else:
        assert page.total == 3


def test_creators_are_those_of_visible_tasks(three: Context) -> None:
    assert find_creators(three, None) == ["alice", "bob"]
    assert find_creators(three, frozenset({3})) == ["bob"]


# --- The log


def write_log(ctx: Context, run_id: int, *chunks: bytes) -> None:
    offset = 0
    with transaction(ctx.engine) as session:
        for chunk in chunks:
            row = {"run_id": run_id, "offset": offset, "host_id": None, "content": chunk}
            session.execute(insert(LogChunk), [row])
            offset += len(chunk)
        session.execute(update(Run).where(Run.id == run_id).values(log_size=offset))


def end_and_begin(ctx: Context, run_id: int, chunks: list[bytes], archived: bool) -> None:
    """That run has ended, and if it is settled its log is one blob."""
    write_log(ctx, run_id, *chunks)
    values = {"status": RunStatus.ENDED, "outcome": "failed", "finished_at": now()}
    with transaction(ctx.engine) as session:
        session.execute(update(Run).where(Run.id == run_id).values(values))
        if archived:
            blob = zlib.compress(b"".join(chunks))
            session.execute(update(Run).where(Run.id == run_id).values(log_blob=blob))
            session.query(LogChunk).where(LogChunk.run_id == run_id).delete()


def add_run(ctx: Context, attempt: int, operation: Operation = Operation.RETRY) -> int:
    with transaction(ctx.engine) as session:
        run = Run(subtask_id=1, task_id=1, job_id=1, attempt=attempt, operation=operation)
        session.add(run)
        session.flush()
        return run.id


def test_each_attempt_begins_with_the_line_clients_split_at(ctx: Context) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    end_and_begin(ctx, 1, [b"first\n"], archived=True)
    second = add_run(ctx, 2)
    write_log(ctx, second, "zwei\u00e4".encode())

    text = read_log(ctx, 1).text

    parts = re.split(r"(#{12}\{\S*\}\{\S*\}#{12})", text)
    assert [part.split("}")[0] for part in parts[1::2]] == [
        "############{EXECUTE",
        "############{RETRY",
    ]
    assert parts[2].startswith("\nfirst\n")
    assert " failed\n" in parts[2]
    assert parts[4] == "\nzwei\u00e4"
    assert [a.number for a in attempt_logs(ctx, 1)] == [1, 2]


def test_the_separator_has_the_shape_of_the_contract() -> None:
    at = datetime(2021, 8, 25, 15, 10, 13, 176000, tzinfo=UTC)

    assert separator(Operation.EXECUTE, at) == (
        "############{EXECUTE}{2021-08-25T15:10:13.176+00:00}############"
    )


@given(
    texts=st.lists(st.lists(st.text(max_size=12), max_size=5), min_size=1, max_size=3),
    archived=st.lists(st.booleans(), min_size=3, max_size=3),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    limit=st.integers(1, 37),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_split_joins_to_the_same_bytes(
    ctx: Context, texts: list[list[str]], archived: list[bool], cuts: list[int], limit: int
) -> None:
    _start_over(ctx)
    submit_stages(ctx, 1, "INSTALL_AGENT")
    for number, chunks in enumerate(texts):
        run_id = 1 if number == 0 else add_run(ctx, number + 1)
        content = [chunk.encode(errors="replace") for chunk in chunks]
        end_and_begin(ctx, run_id, [c for c in content if c], archived[number])
    whole = read_log(ctx, 1)
    assert len(whole.text.encode()) == whole.size

    edges = [0, *sorted(cut for cut in cuts if cut < whole.size), whole.size]
    pieces = [read_log(ctx, 1, start, end - start).text for start, end in itertools.pairwise(edges)]
    followed, at = [], 0
    while at < whole.size:
        some = read_log(ctx, 1, at, limit)
        followed.append(some.text)
        assert some.next_offset > at
        at = some.next_offset

    assert "".join(pieces) == whole.text
    assert "".join(followed) == whole.text


def _start_over(ctx: Context) -> None:
    with transaction(ctx.engine) as session:
        for table in reversed(Base.metadata.sorted_tables):
            if table.name not in ("zone", "access_point", "package"):
                session.execute(table.delete())


@pytest.mark.parametrize("lines", [1, 2, 3, 50])
@pytest.mark.parametrize("ends", [b"\n", b""])
def test_the_tail_is_the_last_lines(ctx: Context, lines: int, ends: bytes) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    write_log(ctx, 1, b"".join(b"line %d\n" % n for n in range(40))[:-1] + ends)
    whole = read_log(ctx, 1).text

    tail = read_log(ctx, 1, tail=lines)

    assert tail.text.splitlines() == whole.splitlines()[-lines:]
    assert tail.next_offset == tail.size == len(whole)


def test_the_tail_of_a_long_log_is_found_across_blocks(ctx: Context) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    write_log(ctx, 1, *[b"x" * 50_000 + b"\n" for _ in range(10)])

    assert len(read_log(ctx, 1, tail=4).text.splitlines()) == 4


def test_a_log_past_its_time_says_so(ctx: Context) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    end_and_begin(ctx, 1, [b"gone"], archived=True)
    with transaction(ctx.engine) as session:
        session.execute(update(Run).values(log_blob=None))

    log = read_log(ctx, 1)

    assert "past its time" in log.text
    assert "gone" not in log.text
    assert log.size == len(log.text)
    assert read_log(ctx, 1, 10, 30).text == log.text[10:40]


def test_work_without_a_worker_tells_its_steps(ctx: Context) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    play(ctx, {"10.9.0.1": "ok"})
    command = SubmitJob(job_type="REMOVE_AGENT", hosts=(HostSpec(host_id=1),), created_by="a")
    removed = submit_job(ctx, command).task_id

    subtask = get_task(ctx, removed).subtasks[0]

    assert "[10.9.0.1] record: recorded" in read_log(ctx, subtask.id).text
    assert read_log(ctx, subtask.id).text.startswith("############{EXECUTE}{")


def test_a_subtask_that_has_not_begun_has_said_nothing(ctx: Context) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT", "RESTART_AGENT")

    assert read_log(ctx, 2).text == ""
    assert read_log(ctx, 2, tail=3).text == ""


def test_pages_of_a_log_of_a_thousand_hosts(ctx: Context) -> None:
    submit_stages(ctx, 1, "INSTALL_AGENT")
    chunks = [f"ok: [host_{n}] => 安装完成\n".encode() for n in range(1000)]
    write_log(ctx, 1, *chunks)
    whole = read_log(ctx, 1)

    pages, at = [], 0
    while at < whole.size:
        some = read_log(ctx, 1, at, 4096)
        pages.append(some.text)
        at = some.next_offset

    assert len(pages) == -(-whole.size // 4096)
    assert "".join(pages) == whole.text
    assert whole.text.count("安装完成") == 1000


# --- The same on PostgreSQL


def test_postgresql_finds_and_shows_the_same(postgres_ctx: Context) -> None:
    ctx = postgres_ctx
    submit_stages(ctx, 2, "INSTALL_AGENT", "RESTART_AGENT")
    play(ctx, {"10.9.0.1": "ok", "10.9.0.2": REFUSED})
    second = TaskFilter(
        name="INSTALL",
        business_id=2,
        business_name="business 2",
        visible=frozenset({2}),
        host_id=2,
        sort=(("finished_at", True), ("name", False)),
    )

    assert [task.id for task in find_tasks(ctx, second).rows] == [1]
    assert find_tasks(ctx, TaskFilter(visible=frozenset({3}))).total == 0
    assert find_creators(ctx, frozenset({2})) == ["alice"]
    first, later = get_task(ctx, 1).subtasks
    assert dict(first.hosts) == {Status.SUCCESS: 1, Status.FAILED: 1}
    assert first.retryable == 1
    assert later.upstreams == (first.id,)
    write_log(ctx, 1, "größe\n".encode(), b"more\n")
    whole = read_log(ctx, 1)
    assert read_log(ctx, 1, 0, 70).text + read_log(ctx, 1, 70).text == whole.text
    assert "größe\nmore\n" in whole.text
