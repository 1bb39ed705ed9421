"""Read and write package archives: hostile ones are refused, our own are always the same bytes."""

import gzip
import io
import json
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.domain.errors import InvalidRequest
from app.packages.manifest import FILE_NAME, named_files, parse_manifest

MIB = 1024 * 1024
MOST_ARCHIVE_BYTES = 512 * MIB
MOST_UNPACKED_BYTES = 1024 * MIB
MOST_FILES = 20_000
MOST_MANIFEST_BYTES = MIB
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class File:
    """One file to put into an archive."""

    content: bytes
    is_program: bool = False
    link: str | None = None  # a symbolic link, and where it leads


def inspect(path: Path) -> dict[str, Any]:
    """The manifest of an archive that may be trusted to unpack."""
    if path.stat().st_size > MOST_ARCHIVE_BYTES:
        raise _refusal(f"is larger than {MOST_ARCHIVE_BYTES // MIB} MiB")
    with path.open("rb") as file:
        if file.read(2) != GZIP_MAGIC:
            raise _refusal("is not a .tar.gz; make one with `hostler package build`")
    try:
        manifest, programs = _walk(path)
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise _refusal(f"cannot be read: {error}") from None
    if manifest is None:
        raise _refusal(f"has no {FILE_NAME} at its top; make one with `hostler package build`")
    _check_named_files(manifest, programs)
    return manifest


def _walk(path: Path) -> tuple[dict[str, Any] | None, dict[str, bool]]:
    """Every member checked; the manifest, and for each file whether it can be run."""
    manifest, found, unpacked = None, dict[str, bool](), 0
    with _opened(path) as archive:
        for member in archive:
            _check_member(member)
            unpacked += member.size
            if unpacked > MOST_UNPACKED_BYTES or len(found) >= MOST_FILES:
                raise _refusal("unpacks to more than a package may")
            name = member.name.removeprefix("./")
            found[name] = bool(member.mode & 0o100) or not member.isreg()
            if name == FILE_NAME:
                manifest = _read_manifest(archive, member)
    return manifest, found


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive, of which no more is ever inflated than a package may hold."""
    with (
        gzip.open(path) as inflated,
        _Limited(inflated, MOST_UNPACKED_BYTES + 64 * MIB) as limited,
        tarfile.open(fileobj=limited, mode="r|") as archive,
    ):
        yield archive


class _Limited(io.RawIOBase):
    """A stream that ends with a refusal after so many bytes: a bomb must not go off."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._left = stream, limit

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise _refusal("unpacks to more than a package may")
        return piece


def _check_member(member: tarfile.TarInfo) -> None:
    if not _stays_inside(member.name):
        raise _refusal(f"reaches out of its folder: {member.name!r}")
    if member.issym() and not _stays_inside(
        posixpath.join(posixpath.dirname(member.name), member.linkname)
    ):
        raise _refusal(f"has a link out of its folder: {member.name!r} -> {member.linkname!r}")
    if member.islnk() and not _stays_inside(member.linkname):
        raise _refusal(f"has a link out of its folder: {member.name!r} -> {member.linkname!r}")
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise _refusal(f"holds {member.name!r}, which is neither a file, a folder nor a link")


def _stays_inside(name: str) -> bool:
    if name.startswith("/") or "\0" in name or "\\" in name:
        return False
    return not posixpath.normpath(name).startswith("..")


def _read_manifest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    if not member.isreg() or member.size > MOST_MANIFEST_BYTES:
        raise _refusal(f"has a {FILE_NAME} that is no ordinary file")
    file = archive.extractfile(member)
    assert file is not None
    return parse_manifest(file.read().decode())


def _check_named_files(manifest: Mapping[str, Any], found: Mapping[str, bool]) -> None:
    for name in named_files(manifest):
        if name not in found:
            raise _refusal(f"lacks {name}, which its manifest names")
    if not found[manifest["exec"][0]]:
        raise _refusal(f"holds {manifest['exec'][0]}, but not as a program that can be run")


def _refusal(what: str) -> InvalidRequest:
    return InvalidRequest(f"The package {what}.", field="package")


def write_archive(out: Path, manifest: Mapping[str, Any], files: Mapping[str, File]) -> None:
    """Pack the files; the same content always gives the same bytes."""
    # JSON is YAML, and the hosts' Python reads only JSON
    described = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    packed = {FILE_NAME: File(described.encode()), **files}
    draft = out.with_name(f".{out.name}.new")
    with (
        draft.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        # the manifest first: it can be read without inflating the rest
        for name in [FILE_NAME, *sorted(set(packed) - {FILE_NAME})]:
            _pack(archive, name, packed[name])
    draft.replace(out)


def _pack(archive: tarfile.TarFile, name: str, file: File) -> None:
    member = tarfile.TarInfo(name)
    if file.link is not None:
        member.type, member.linkname = tarfile.SYMTYPE, file.link
        archive.addfile(member)
        return
    member.size = len(file.content)
    member.mode = 0o755 if file.is_program else 0o644
    archive.addfile(member, io.BytesIO(file.content))


# --- Debian's archives --------------------------------------------------------------------------

AR_MAGIC = b"!<arch>\n"
AR_HEAD = 60


def read_deb(path: Path) -> tuple[dict[str, str], dict[str, File]]:
    """The control fields and the files of a .deb; no dpkg is needed."""
    members = _ar_members(path.read_bytes())
    control, data = _member(members, "control.tar"), _member(members, "data.tar")
    fields = _control_fields(control.get("control", File(b"")).content.decode())
    if not {"Package", "Version", "Architecture"} <= fields.keys():
        raise InvalidRequest(f"{path.name} is a .deb without a name, version and architecture.")
    return fields, data


def _ar_members(content: bytes) -> dict[str, bytes]:
    if not content.startswith(AR_MAGIC):
        raise InvalidRequest("This is not a .deb.", field="package")
    members, at = dict[str, bytes](), len(AR_MAGIC)
    while at + AR_HEAD <= len(content):
        head = content[at : at + AR_HEAD]
        name = head[:16].decode("ascii", "replace").strip().rstrip("/")
        try:
            size = int(head[48:58])
        except ValueError:
            raise InvalidRequest("This .deb is damaged.", field="package") from None
        members[name] = content[at + AR_HEAD : at + AR_HEAD + size]
        at += AR_HEAD + size + size % 2
    return members


def _member(members: Mapping[str, bytes], name: str) -> dict[str, File]:
    for full_name, content in members.items():
        if full_name.startswith(name):
            return _tar_files(_inflate(full_name, content))
    raise InvalidRequest(f"This .deb has no {name}.", field="package")


def _inflate(name: str, content: bytes) -> bytes:
    match name.rpartition(".")[2]:
        case "xz" | "lzma":
            return lzma.decompress(content)
        case "gz":
            return gzip.decompress(content)
        case "tar":
            return content
        case other:
            raise InvalidRequest(
                f"This .deb is packed with {other}, which cannot be read here; unpack it with "
                "`dpkg-deb -x` and build from the folder.",
                field="package",
            )


def _tar_files(content: bytes) -> dict[str, File]:
    files = dict[str, File]()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            name = posixpath.normpath(member.name)
            if member.issym():
                files[name] = File(b"", link=member.linkname)
            elif member.isreg() and (file := archive.extractfile(member)):
                files[name] = File(file.read(), is_program=bool(member.mode & 0o100))
    return files


def _control_fields(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith((" ", "#")))
    return {name: value.strip() for name, colon, value in lines if colon}
