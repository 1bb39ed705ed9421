"""What the README names is there, and what is there the README names."""

import inspect
import re
import subprocess
from dataclasses import fields
from itertools import chain
from typing import Any

import click
import pytest

from app.access.caller import Role
from app.api.nodeman import vocabulary as nodeman
from app.api.ocp import vocabulary as ocp
from app.cli import main
from app.domain import errors
from app.domain.catalogue import BY_HAND, CATALOGUE
from app.domain.rollout import dump_rollout, parse_rollout
from app.domain.states import (
    Cause,
    Direction,
    JobStatus,
    Operation,
    Status,
    SubtaskStatus,
    TaskStatus,
)
from app.settings import Settings
from tests.docs.readme import CHECKOUT, README, Block, blocks, prose, rows, section, ticked


def first_words(heading: str, first: str) -> list[str]:
    """The words in backticks of a table's first column."""
    return list(chain.from_iterable(ticked(row[0]) for row in rows(heading, first)))


def test_every_job_type_is_told_with_its_steps() -> None:
    told = {ticked(row[0])[0]: row[2] for row in rows("Job types", "Job type")}

    assert told == {
        name: ", ".join(step.key for step in job_type.steps) for name, job_type in CATALOGUE.items()
    }


def test_no_job_type_is_named_that_there_is_not() -> None:
    named = set(re.findall(r"\b[A-Z_]+_(?:AGENT|PROXY|PLUGIN)\b", README.read_text()))

    assert named <= CATALOGUE.keys()
    assert set(BY_HAND.values()) <= named


def test_what_a_caller_may_set_is_told() -> None:
    settable = set(chain.from_iterable(job_type.variables for job_type in CATALOGUE.values()))
    told = section("Job types").rpartition("|\n")[2]
    taking = {t.operation.lower() for t in CATALOGUE.values() if t.variables and t.by_operate}

    assert settable == set(ticked(told))
    assert all(word in told for word in {"install", *taking})


def test_every_state_is_told() -> None:
    told = {row[0]: row[1] for row in rows("States and causes", "Of")}

    for of, states in (
        ("part, step, target", Status),
        ("subtask", SubtaskStatus),
        ("task", TaskStatus),
        ("job", JobStatus),
    ):
        assert set(ticked(told[of])) == {state.name for state in states}, of


def test_every_operation_and_direction_is_told() -> None:
    told = set(ticked(section("States and causes").partition("| Cause |")[0]))

    assert {word.name for word in (*Operation, *Direction)} <= told


def test_every_cause_is_told_with_what_to_do() -> None:
    told = {ticked(row[0])[0]: row for row in rows("States and causes", "Cause")}

    assert set(told) == set(Cause)
    assert [cause for cause, row in told.items() if not all(row)] == []


def test_every_setting_is_told_with_its_default() -> None:
    told = {ticked(row[0])[0]: row[1].strip("`") for row in rows("Settings", "Setting")}

    assert told == {f"HOSTLER_{item.name.upper()}": _default(item) for item in fields(Settings)}


def _default(item: Any) -> str:
    if item.name == "data_dir":
        return "./data"
    return str(item.default).lower() if isinstance(item.default, bool) else str(item.default)


def test_no_setting_is_named_that_there_is_not() -> None:
    named = set(re.findall(r"HOSTLER_[A-Z_]+[A-Z]", README.read_text()))

    assert named == {f"HOSTLER_{item.name.upper()}" for item in fields(Settings)}


FAMILIES = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.HostlerError)
}


def test_every_error_is_told_with_its_codes() -> None:
    told = {ticked(row[0])[0]: (row[1], row[2]) for row in rows("Errors", "Error")}

    assert told == {name: _codes(kind) for name, kind in FAMILIES.items()}


def _codes(kind: type[errors.HostlerError]) -> tuple[str, str]:
    code = nodeman.fault_of(kind()).code
    fault = ocp.fault_of(kind(), "en")
    return f'"{code}"' if isinstance(code, str) else str(code), f"{fault.status} {fault.code}"


def test_no_code_is_named_that_there_is_not() -> None:
    named = set(re.findall(r"\b38\d{5}\b|\b(?:TSK|COM|IAM)\d{5}\b", README.read_text()))
    tables = {**nodeman.ERRORS, **nodeman.OUTER_ERRORS}
    known = {str(code) for code, _ in tables.values()} | {c for _, c, _ in ocp.ERRORS.values()}

    assert named <= known | {ocp.LOCKED, str(nodeman.PLATFORM + 405)}


def test_every_role_is_told_with_its_permission() -> None:
    told = {ticked(row[0])[0]: row[1] for row in rows("Access", "Role")}

    assert list(told) == [role.value for role in Role]
    for role in (Role.VIEWER, Role.OPERATOR):
        assert f"`{ocp.PERMISSION[role]}`" in told[role]


def commands(group: click.Group) -> set[str]:
    """What can be typed, with the words of groups in front."""
    context = click.Context(group)
    found = set()
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        inner = commands(command) if isinstance(command, click.Group) else {""}
        found |= {f"{name} {word}".strip() for word in inner}
    return found


def test_every_command_is_told() -> None:
    told = set()
    for cell, _ in rows("First calls", "Command line"):
        first, *others = ticked(cell)
        _, *group, name = first.split()
        told |= {" ".join([*group, word]) for word in [name, *others]}

    assert told == commands(main)  # type: ignore[arg-type]


def test_commands_that_are_used_exist() -> None:
    used = set(
        re.findall(r"(?<!/)hostler ((?:[a-z]+(?:-[a-z]+)*)(?: [a-z]+(?:-[a-z]+)*)?)", prose())
    )
    known = commands(main)  # type: ignore[arg-type]

    for words in used:
        assert any(f"{words} ".startswith(f"{command} ") for command in known) or any(
            command.startswith(f"{words} ") for command in known
        ), f"hostler {words}"


LONG = [block for block in blocks() if block.language == "sh" and block.note == "long"]


@pytest.mark.parametrize("block", LONG, ids=lambda block: block.heading)
def test_what_takes_long_is_offered_by_run(block: Block) -> None:
    shown = subprocess.run(
        [CHECKOUT / "run", "help"], capture_output=True, text=True, check=True
    ).stdout
    used = [line.split() for line in block.text.splitlines()]

    for first, *others in used:
        assert first in ("./run", "apt-get", "mkdir", "install", "export"), first
        if first == "./run":
            assert f"./run {others[0]} " in shown
        if others[:1] == ["hostler"]:
            assert " ".join(others[1:3]) in commands(main)  # type: ignore[arg-type]


def test_what_run_offers_is_told() -> None:
    shown = subprocess.run(
        [CHECKOUT / "run", "help"], capture_output=True, text=True, check=True
    ).stdout

    told = set(re.findall(r"\./run (\w+)", README.read_text())) | set(ticked(section("Try it")))
    assert set(re.findall(r"^\./run (\w+)", shown, re.MULTILINE)) <= told


def test_the_fields_of_a_rollout_are_told() -> None:
    told = dict(rows("Rollouts and stages", "Field"))["`rollout`"]
    known = dump_rollout(parse_rollout({}))

    assert set(ticked(told)) == set(known)


WORDS = [
    *("host", "zone", "access point", "install channel", "credential", "standing access"),
    *("package", "job type", "subscription", "job", "task", "stage", "target", "part", "subtask"),
    *("run", "step", "event", "verdict", "lease", "dialect"),
]


def test_the_words_of_the_design_are_explained() -> None:
    explained = [row[0] for row in rows("Words", "Word")]

    assert set(WORDS) <= set(explained)
    assert len(set(explained)) == len(explained)
