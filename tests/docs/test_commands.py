"""The README's commands do what it says, in the order a reader comes to them."""

import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.readme import CHECKOUT, Block, blocks
from tests.lab.fallback import FallbackHost, FallbackLab

pytestmark = pytest.mark.slow

EXAMPLE = "192.0.2.11"
EARLIEST = "Packages"  # ./run up has a package by itself; the installation of this test has none


def short_blocks() -> list[Block]:
    """What a reader types and waits for, packages first."""
    found = [block for block in blocks() if block.language == "sh" and not block.note]
    return sorted(found, key=lambda block: block.heading != EARLIEST)


def test_every_shell_block_is_run_or_marked() -> None:
    notes = {block.note for block in blocks() if block.language == "sh"}

    assert notes == {"", "long"}


@pytest.mark.timeout(600)
def test_the_commands_work_as_written(stand_ins: FallbackLab, desk: Path) -> None:
    write_bodies(desk, stand_ins.hosts[0])
    write_inventory(desk, stand_ins)

    said = run(desk)

    assert "my_agent\t1.0\tx86_64" in said["Packages"]
    assert re.search(FIRST_CALLS, said["First calls"], re.DOTALL), said["First calls"]
    assert "Job 3  Upgrade Agent  SUCCESS" in said["Rollouts and stages"]
    assert "my_flows\toperator\tbusinesses: 2" in said["Access"]
    assert said["By hand"].count("unreachable=0    failed=0") == 2


# ready; refused with the reason; mended; restarted without a login; seen by OCP; as events
FIRST_CALLS = (
    r'"status":"ok".*"job_id":1.*not on every host.*"cause":"auth".*'
    r'"data":\[1,2\].*Job 1  Install Agent  SUCCESS  1 success.*'
    r'"job_id":2.*SUCCESS  1 success.*"totalElements":3.*event: end'
)


def run(desk: Path) -> dict[str, str]:
    """Run every block in one shell, as a reader does; what was said under each heading."""
    script = "".join(f"echo '=== {b.heading}'\n{b.text}\n" for b in short_blocks())
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=desk, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    said = defaultdict(str)
    for heading, text in re.findall(r"^=== (.+?)$(.*?)(?=^=== |\Z)", done.stdout, MARKED):
        said[heading] += text
    return said


MARKED = re.MULTILINE | re.DOTALL


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOSTLER_")}


def write_bodies(desk: Path, host: FallbackHost) -> None:
    """The JSON a reader saves, for a host that is there; the right login is its key."""
    for block in blocks():
        if block.language == "json":
            body = json.loads(block.text)
            for row in body["hosts"]:
                row.update(place_of(row, host))
            (desk / block.note).write_text(json.dumps(body))


def place_of(row: dict[str, Any], host: FallbackHost) -> dict[str, Any]:
    place: dict[str, Any] = {"account": host.user, "port": host.port}
    if "inner_ip" in row:
        assert row["inner_ip"] == EXAMPLE
        place["inner_ip"] = host.address
    if row["password"] == "the right one":
        place |= {"auth_type": "KEY", "key": Path(host.private_key_file).read_text()}
    return place


def write_inventory(desk: Path, lab: FallbackLab) -> None:
    """The example with the hosts of a reader in it, and the package made under Packages."""
    shutil.copytree(CHECKOUT / "inventory_templates", desk / "inventory_templates")
    path = desk / "inventory_templates" / "example.yml"
    inventory = yaml.safe_load(path.read_text())
    inventory["all"]["vars"] |= {"hostler_package_file": "my_agent-1.0-x86_64.tar.gz"}
    hosts = inventory["all"]["children"]["linux"]["hosts"]
    for variables, host in zip(hosts.values(), lab.hosts, strict=True):
        variables.pop("ansible_become", None)  # these hosts belong to whoever runs the test
        variables |= {
            "ansible_host": host.address,
            "ansible_port": host.port,
            "ansible_user": host.user,
            "ansible_python_interpreter": host.python,
            "ansible_ssh_private_key_file": host.private_key_file,
        }
    path.write_text(yaml.safe_dump(inventory))
