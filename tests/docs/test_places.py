"""Pages lead to places that exist, and name nothing that is only here."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docs.readme import CHECKOUT, README, links, rows, section, ticked

PAGES = sorted(
    CHECKOUT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()
)  # fmt: skip
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir() if path.is_dir())


def name_of(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def anchors(path: Path) -> set[str]:
    """What a link may name after its #."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_heading_is_in_the_list_at_the_top() -> None:
    listed = {link.removeprefix("#") for link in links(README) if link.startswith("#")}
    headings = set(re.findall(r"^## (.+)$", README.read_text(), re.MULTILINE))

    assert {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings} == listed


PATH = re.compile(r"(?:app|roles|playbooks|inventory_templates|tests)/[\w./-]*")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_in_backticks_exists(page: Path) -> None:
    for word in ticked(page.read_text()):
        if PATH.fullmatch(word):
            assert (CHECKOUT / word).exists(), word


def test_the_map_names_every_folder() -> None:
    told = set()
    for cell, text in rows("Folders", "Folder"):
        told |= {word.strip("/") for word in ticked(cell) + ticked(text)}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {name.split("/")[0] for name in tracked if "/" in name and not name.startswith(".")}
    inside = {"/".join(n.split("/")[:2]) for n in tracked if re.match(r"app/[^/]+/", n)}

    assert folders <= {word.split("/")[0] for word in told}
    assert inside <= told


def test_the_map_names_every_module_beside_the_folders() -> None:
    told = set(ticked(dict(rows("Folders", "Folder"))["`app/`"]))
    modules = {path.name for path in (CHECKOUT / "app").glob("*.py")} - {"__init__.py"}

    assert modules == told


REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted|quay\.io|docker\.io|ghcr\.io|registry\.|proxy\.golang"
)
OF_THIS_MACHINE = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/\w")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_no_registry_and_no_folder_of_one_machine(page: Path) -> None:
    assert REGISTRIES.findall(page.read_text()) == []
    assert OF_THIS_MACHINE.findall(page.read_text()) == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_explains_its_variables(role: str) -> None:
    folder = CHECKOUT / "roles" / role
    options = set(_read(folder / "meta/argument_specs.yml")["argument_specs"]["main"]["options"])
    defaults = (folder / "defaults/main.yml").read_text()
    told = set(re.findall(r"^\| `(\w+)`", (folder / "README.md").read_text(), re.MULTILINE))
    public = set(re.findall(r"hostler_\w+", defaults)) if role == "package" else options

    assert set(_read(folder / "defaults/main.yml")) == options
    assert {name for name in told if name.startswith(("hostler_", f"{role}_"))} == public - {
        f"{role}_service"  # what makes the role what it is
    }


def test_the_package_role_tells_the_phases_of_every_action() -> None:
    page = CHECKOUT / "roles/package/README.md"
    told = {
        action: re.split(r"[;:]", cell)[0].split(", ")
        for actions, cell in rows("What it does", "Action", page)
        for action in ticked(actions)
    }
    tree = ast.parse((CHECKOUT / "roles/package/files/hostler/work.py").read_text())
    tables = {ast.unparse(n.targets[0]): n.value for n in tree.body if isinstance(n, ast.Assign)}
    phases = ast.unparse(tables["PHASES"]).replace("DEPLOY", ast.unparse(tables["DEPLOY"]))

    assert told == {action: list(keys) for action, keys in ast.literal_eval(phases).items()}


def test_the_changelog_keeps_its_shape() -> None:
    page = CHECKOUT / "CHANGELOG.md"
    versions = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", page.read_text(), re.MULTILINE))

    assert versions[0] == "[Unreleased]"
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert section("Added", page).strip()


def _read(path: Path) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    found: dict[str, dict[str, dict[str, dict[str, object]]]] = yaml.safe_load(path.read_text())
    return found
