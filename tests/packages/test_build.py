"""Building packages: from a folder, from a .deb, always the same bytes."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from app.domain.errors import InvalidRequest, NotFound
from app.packages.archive import inspect
from app.packages.build import build_package
from app.packages.fetch_default import NotToBeHad, fetch_default_package
from app.packages.manifest import FILE_NAME, check_manifest
from tests.packages.agents import a_folder

MANIFEST = {
    "name": "tiny",
    "kind": "agent",
    "version": "1.0",
    "os": "linux",
    "cpu": "amd64",
    "exec": ["bin/tiny"],
}


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "source")

    first = build_package(folder, tmp_path / "one.tar.gz")
    (folder / "bin/tiny").touch()
    second = build_package(folder, tmp_path / "two.tar.gz")

    assert first.read_bytes() == second.read_bytes()


def test_a_folder_as_target_gets_a_telling_name(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "source", "1.2", cpu="arm64")

    assert build_package(folder, tmp_path) == tmp_path / "tiny-1.2-aarch64.tar.gz"


def test_overrides_win_over_the_manifest(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "source", "1.0")

    path = build_package(folder, tmp_path, version="9.0", name="other", cpu=None)

    assert inspect(path)["version"] == "9.0"
    assert path.name.startswith("other-9.0-")


def test_a_deb_becomes_a_package_without_dpkg(tmp_path: Path) -> None:
    deb = a_deb(tmp_path, "prometheus-node-exporter", "1:1.5.0-1+b6", "amd64")

    path = build_package(deb, tmp_path)

    manifest = inspect(path)
    assert path.name == "node_exporter-1.5.0-1+b6-x86_64.tar.gz"
    assert manifest["reported_version"] == "1.5.0"
    assert manifest["kind"] == "agent"
    with tarfile.open(path) as packed:
        assert packed.getmember("bin/prometheus-node-exporter").mode == 0o755
        assert "etc/agent.env" in packed.getnames()


def test_an_unknown_deb_is_refused_with_a_way_out(tmp_path: Path) -> None:
    deb = a_deb(tmp_path, "cowsay", "3", "all")

    with pytest.raises(InvalidRequest, match=r"cowsay.*known: .*prometheus-node-exporter"):
        build_package(deb, tmp_path)


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"!<arch>\n" + b"x" * 60, b"no deb"])
def test_a_damaged_deb_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.deb").write_bytes(content)

    with pytest.raises(InvalidRequest):
        build_package(tmp_path / "broken.deb", tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(InvalidRequest, match=FILE_NAME):
        build_package(tmp_path / "empty", tmp_path)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        build_package(tmp_path / "nowhere", tmp_path)


def test_a_package_that_lacks_what_it_names_is_not_left_behind(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "source")
    (folder / "etc/tiny.env").unlink()

    with pytest.raises(InvalidRequest, match=r"lacks etc/tiny\.env"):
        build_package(folder, tmp_path / "out.tar.gz")
    assert not (tmp_path / "out.tar.gz").exists()


def test_os_and_cpu_have_one_spelling() -> None:
    manifest = check_manifest(MANIFEST)

    assert (manifest["os"], manifest["cpu"]) == ("LINUX", "x86_64")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"os": "windows"}, "wrong os"),
        ({"cpu": "pdp11"}, "wrong cpu"),
        ({"kind": "virus"}, "wrong kind"),
        ({"name": "../x"}, "wrong name"),
        ({"version": "1/2"}, "wrong version"),
        ({"version": ""}, "lacks version"),
        ({"exec": []}, "lacks exec"),
        ({"exec": ["/bin/sh"]}, "wrong exec"),
        ({"exec": ["../../bin/sh"]}, "wrong exec"),
        ({"exec": ["bin/tiny", 7]}, "wrong exec"),
        ({"config": [{"path": "../x", "source": "x"}]}, "wrong config"),
        ({"config": [{"path": "x", "source": "x", "format": "exe"}]}, "wrong config"),
        ({"version_pattern": "("}, "wrong version_pattern"),
        ({"version_pattern": "no group"}, "wrong version_pattern"),
        ({"ready": {"kind": "pray"}}, "wrong ready"),
        ({"ready": {"kind": "tcp", "port": "ssh"}}, "wrong ready"),
        ({"reload": "sometimes"}, "wrong reload"),
        ({"stays_up": -1}, "wrong stays_up"),
        ({"colour": "red"}, "knows no colour"),
    ],
)
def test_a_wrong_manifest_names_its_field(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check_manifest({**MANIFEST, **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"exec": ["bin/tiny", "${port}"]}, r"exec asks for \$\{port\}, which nobody gives"),
        ({"ready": {"kind": "tcp", "port": "${port}"}}, r"ready asks for \$\{port\}"),
        ({"version_command": ["bin/tiny", "${x}"]}, r"version_command asks for \$\{x\}"),
        ({"cpu": "pdp11"}, r"It takes one of x86_64, aarch64"),
        ({"exec": ["/bin/sh"]}, r"It takes a list: a program of the package"),
        ({"name": "My Agent"}, r"It takes small letters, digits"),
        ({"config": [{"path": "x", "source": "x", "mode": "666"}]}, "wrong config"),
        ({"user": "root; id"}, "wrong user"),
    ],
)
def test_a_refusal_says_what_is_right(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check_manifest({**MANIFEST, **change})


def test_names_with_a_default_and_built_in_ones_are_given() -> None:
    check_manifest(
        MANIFEST | {"exec": ["bin/tiny", "${address}:${port}$$"], "defaults": {"port": 1}}
    )


@pytest.mark.parametrize(
    ("written_as", "text", "said"),
    [
        ("raw", "${nobody}", r"etc/x asks for \$\{nobody\}"),
        ("json", '{"a": "${name}"}', "no JSON once it is filled in"),
        ("json", '{"a": ${name},}', "no JSON once it is filled in"),
        ("env", "A=1\nexport B=2\n", "Line 2 of etc/x"),
    ],
)
def test_a_file_no_host_could_render_is_refused(
    tmp_path: Path, written_as: str, text: str, said: str
) -> None:
    folder = a_folder(tmp_path / "source")
    (folder / "etc/x").write_text(text)
    manifest = yaml.safe_load((folder / FILE_NAME).read_text())
    manifest["config"].append({"path": "x", "source": "etc/x", "format": written_as})
    (folder / FILE_NAME).write_text(yaml.safe_dump(manifest))

    with pytest.raises(InvalidRequest, match=said):
        build_package(folder, tmp_path)


@pytest.mark.parametrize("written", ["1.10", "1", "1.0e3", "2026-11-27", "yes", "0x10"])
def test_a_version_stays_as_it_is_written(tmp_path: Path, written: str) -> None:
    folder = a_folder(tmp_path / "source")
    text = (folder / FILE_NAME).read_text().replace("version: '1.0'", f"version: {written}")
    assert f"version: {written}" in text
    (folder / FILE_NAME).write_text(text)

    assert inspect(build_package(folder, tmp_path / "x.tar.gz"))["version"] == written


def test_the_shipped_manifests_are_right() -> None:
    from app.packages.build import MANIFESTS

    folders = sorted(MANIFESTS.iterdir())
    assert folders
    for folder in folders:
        found = yaml.safe_load((folder / FILE_NAME).read_text())
        found.pop("take")
        check_manifest({**found, "version": "1", "cpu": "x86_64"})


@pytest.mark.slow
@pytest.mark.timeout(600)  # apt has three minutes for each of three attempts
def test_the_default_agent_can_be_had_where_there_is_apt(tmp_path: Path) -> None:
    if not shutil.which("apt-get"):
        with pytest.raises(NotToBeHad, match="hostler package add"):
            fetch_default_package(tmp_path)
        return
    try:
        path = fetch_default_package(tmp_path)
    except NotToBeHad as error:
        pytest.skip(f"node_exporter: {error.message}")

    assert inspect(path)["name"] == "node_exporter"


@pytest.mark.parametrize("packing", ["xz", "gz"])
def test_a_deb_that_unpacks_to_far_more_is_refused_early(tmp_path: Path, packing: str) -> None:
    deb = a_deb(tmp_path, "prometheus-node-exporter", "1", "amd64", padding=100 << 20, data=packing)
    assert deb.stat().st_size < 1 << 20

    with pytest.raises(InvalidRequest, match="unpacks to more"):
        build_package(deb, tmp_path)


@pytest.mark.parametrize("size", ["-60", "99999999", "1_0", ""])
def test_a_deb_whose_members_have_no_such_size_is_refused(tmp_path: Path, size: str) -> None:
    head = f"{'control.tar':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{size:<10}`\n".encode()
    (tmp_path / "x.deb").write_bytes(b"!<arch>\n" + head + b"x" * 60)

    with pytest.raises(InvalidRequest, match=r"\.deb is damaged"):
        build_package(tmp_path / "x.deb", tmp_path)


def a_deb(
    folder: Path, name: str, version: str, architecture: str, padding: int = 0, data: str = "gz"
) -> Path:
    """A Debian package, made as dpkg makes them, with so many zeros in it."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
    files = {
        "./usr/bin/prometheus-node-exporter": (b"#!/bin/sh\n", 0o755),
        "./usr/share/doc/prometheus-node-exporter/copyright": (b"Apache-2.0", 0o644),
        "./var/zeros": (bytes(padding), 0o644),
    }
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tarred("xz", {"./control": (control.encode(), 0o644)}),
        f"data.tar.{data}": tarred(data, files),
    }
    path = folder / f"{name}.deb"
    with path.open("wb") as deb:
        deb.write(b"!<arch>\n")
        for member, content in members.items():
            deb.write(f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            deb.write(content + b"\n" * (len(content) % 2))
    return path


def tarred(how: str, files: dict[str, tuple[bytes, int]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{how}") as packed:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            packed.addfile(member, io.BytesIO(content))
    return out.getvalue()
