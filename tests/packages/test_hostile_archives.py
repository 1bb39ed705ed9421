"""Archives made to do harm are refused with a sentence, before a byte of them is stored."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain.errors import InvalidRequest
from app.models.package import Package, PackageChunk
from app.packages import archive as archives
from app.packages.add import add_package

MANIFEST = b"""{"name": "tiny", "kind": "agent", "version": "1", "os": "LINUX", "cpu": "x86_64",
"exec": ["bin/tiny"]}"""


def a_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, 0o755
    return member


HOSTILE = {
    "an absolute path": (a_member("/etc/passwd"), "reaches out"),
    "a path upwards": (a_member("../../etc/passwd"), "reaches out"),
    "a path upwards in the middle": (a_member("bin/../../x"), "reaches out"),
    "a link out": (a_member("x", tarfile.SYMTYPE, "/etc"), "link out"),
    "a link upwards": (a_member("bin/x", tarfile.SYMTYPE, "../../x"), "link out"),
    "a hard link out": (a_member("x", tarfile.LNKTYPE, "/etc/shadow"), "link out"),
    "a device": (a_member("x", tarfile.CHRTYPE), "neither a file"),
    "a pipe": (a_member("x", tarfile.FIFOTYPE), "neither a file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_member_is_refused(tmp_path: Path, session: Session, name: str) -> None:
    member, said = HOSTILE[name]

    refused(session, packed(tmp_path, MANIFEST, member), said)


def test_what_is_no_gzip_is_refused(tmp_path: Path, session: Session) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"PK\3\4" + b"x" * 1000)

    refused(session, tmp_path / "x.tar.gz", "not a .tar.gz")


@pytest.mark.parametrize("damage", ["cut off", "garbage inside", "empty"])
def test_a_damaged_archive_is_refused(tmp_path: Path, session: Session, damage: str) -> None:
    path = packed(tmp_path, MANIFEST)
    content = path.read_bytes()
    damaged = {
        "cut off": content[: len(content) // 2],
        "garbage inside": content[:40] + b"\xff" * 40 + content[80:],
        "empty": b"\x1f\x8b",
    }
    path.write_bytes(damaged[damage])

    refused(session, path, "cannot be read")


def test_a_bomb_does_not_go_off(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_UNPACKED_BYTES", 1 << 20)
    bomb = a_member("bin/bomb")
    bomb.size = 100 << 20

    refused(session, packed(tmp_path, MANIFEST, bomb), "unpacks to more")


def test_a_bomb_that_lies_about_its_size_does_not_go_off(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_UNPACKED_BYTES", 1 << 20)
    monkeypatch.setattr(archives, "MIB", 1)
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb") as zipped:
        header = a_member("a-header")
        header.type, header.size = tarfile.XHDTYPE, 1 << 30
        zipped.write(header.tobuf())
        for _ in range(200):
            zipped.write(b"0" * (1 << 20))

    refused(session, path, "a header that is larger than any needs to be")


def test_a_package_without_a_manifest_is_refused(tmp_path: Path, session: Session) -> None:
    refused(session, packed(tmp_path, None), "no hostler-package.yaml")


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (MANIFEST.replace(b"LINUX", b"WINDOWS"), "wrong os"),
        (MANIFEST.replace(b"x86_64", b"z80"), "wrong cpu"),
        (MANIFEST.replace(b"bin/tiny", b"bin/other"), "lacks bin/other"),
        (b"{", "not YAML"),
        (b"[]", "not a mapping"),
        (b"!!python/object/apply:os.system ['id']", "not YAML"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_wrong_manifest_is_refused(
    tmp_path: Path, session: Session, manifest: bytes, said: str
) -> None:
    refused(session, packed(tmp_path, manifest), said)


ALIASES = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % (name - 1)] * 9)) for name in b"bcdefghi"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ALIASES, "uses aliases"),
        (b"a: " + b"[" * 5000, "nests deeper"),
        (b"a: [" + b"x, " * 30_000 + b"x]", "holds more"),
        (b"a: " + b"9" * 100_000, "a number of more than"),
        (b"a: 2026-99-99", "cannot be read"),
        (b"? [a]\n: b", "not YAML"),
    ],
)
def test_yaml_is_bounded_before_it_becomes_objects(
    tmp_path: Path, session: Session, text: bytes, said: str
) -> None:
    refused(session, packed(tmp_path, text), said)


def test_more_members_than_a_package_has_are_refused(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names may all be one: each still costs the reader an object."""
    monkeypatch.setattr(archives, "MOST_FILES", 50)

    refused(session, packed(tmp_path, MANIFEST, *[a_member("x")] * 100), "unpacks to more")


def test_what_packs_to_next_to_nothing_is_refused_early(tmp_path: Path, session: Session) -> None:
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb") as zipped:
        zeros = a_member("bin/zeros")
        zeros.size = 100 << 20
        zipped.write(zeros.tobuf())
        for _ in range(100):
            zipped.write(b"\0" * (1 << 20))
    assert path.stat().st_size < 1 << 20

    refused(session, path, "unpacks to more")


def test_a_program_that_cannot_be_run_is_refused(tmp_path: Path, session: Session) -> None:
    refused(session, packed(tmp_path, MANIFEST, mode=0o644), "not as a program")


def test_an_archive_that_is_too_large_is_refused(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_ARCHIVE_BYTES", 100)

    refused(session, packed(tmp_path, MANIFEST), "larger than")


def refused(session: Session, path: Path, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        add_package(session, path)
    assert session.scalar(select(func.count()).select_from(Package)) == 0
    assert session.scalar(select(func.count()).select_from(PackageChunk)) == 0


def packed(
    folder: Path, manifest: bytes | None, *members: tarfile.TarInfo, mode: int = 0o755
) -> Path:
    """An archive with a manifest, a program, and whatever else."""
    path = folder / "x.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("hostler-package.yaml", manifest), ("bin/tiny", b"#!/bin/sh\n")):
            if content is not None:
                member = a_member(name)
                member.size, member.mode = len(content), mode
                archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member, io.BytesIO(b"\0" * member.size))
    return path
