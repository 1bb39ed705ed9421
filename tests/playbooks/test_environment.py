"""Environment files: our reading is systemd's, and what we write is read as it was meant."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.fixtures import LabHosts
from tests.playbooks.host import CHECKOUT

FILES = str(CHECKOUT / "roles/package/files")
sys.path.insert(0, FILES)
from hostler import environment, render  # noqa: E402

sys.path.remove(FILES)

TRICKY = r"""
# a comment
; another
PLAIN=b
SPACES=  b c@
EMPTY=
TWO=b=c
QUOTED="b c"
SINGLE='b "c" $d'
MIDDLE=http://"10.0.0.1":"7"/x
AFTER="b" c
JOINED="b"'c'd
ESCAPED=a\"b\\c\ d
DOUBLE="a\"b\\c\d\$e\`f"
LONG=a\
b
LINES="a
b"
 INDENTED=x
SPACED = y
no assignment
1BAD=x
HASH=a#b
SEMI=a;b
DOLLAR=$HOME${HOME}
UNICODE=主机
LAST=z
""".replace("@\n", " \t\n")  # what editors take away


def test_an_environment_file_is_read_as_systemd_reads_it(lab_hosts: LabHosts) -> None:
    [host] = lab_hosts(1)
    host.write("/run/tricky.env", TRICKY)
    shown = host.run(
        *("systemd-run", "--quiet", "--pipe", "--wait", "-p", "EnvironmentFile=/run/tricky.env"),
        *("/usr/bin/env", "-0"),
    ).stdout
    seen = dict(item.split("=", 1) for item in shown.split("\0") if item)

    read = environment.read(TRICKY)
    assert read
    assert {name: seen.get(name) for name in read} == read
    assert "1BAD" not in seen


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_written_value_is_read_back(value: str) -> None:
    assert environment.read(environment.write("NAME", value) + "\n") == {"NAME": value}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.integers())
def test_values_in_the_middle_of_a_value_arrive_whole(text: str, number: int) -> None:
    template = 'A=http://${text}:${number}/x\n# kept\nB="${text} and ${text}"\n'
    rendered = render.render(template, {"text": text, "number": number}, "env", "x.env")

    shown = f"[{text}]" if text.count(":") > 1 else text
    assert environment.read(rendered) == {
        "A": f"http://{shown}:{number}/x",
        "B": f"{text} and {text}",
    }


@pytest.mark.parametrize("path", sorted(Path(CHECKOUT, "app/packages/manifests").rglob("*.env")))
def test_the_shipped_environment_files_have_one_assignment_a_line(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert len(environment.read(path.read_text())) == len(lines)
