"""Read and write package archives: hostile ones are refused, our own are always the same bytes."""

import gzip
import io
import json
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from app.domain.errors import InvalidRequest
from app.domain.sentences import Sentence, say
from app.packages.manifest import FILE_NAME, named_files, parse_manifest
from app.packages.templates import MOST_TEMPLATE_BYTES, check_template

MIB = 1024 * 1024
MOST_ARCHIVE_BYTES = 512 * MIB
MOST_UNPACKED_BYTES = 1024 * MIB
MOST_FILES = 20_000
MOST_MANIFEST_BYTES = MIB
MOST_HEADER_BYTES = MIB
HARMLESS_BYTES = 64 * MIB  # to inflate to, whatever it was packed from
MOST_TIMES_SMALLER = 200  # programs pack to a fifth, zeros to a thousandth
PIECE = 64 * 1024
GZIP_MAGIC = b"\x1f\x8b"
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
TOO_MUCH = say("The package unpacks to more than a package may.")


@dataclass(frozen=True)
class File:
    """One file to put into an archive."""

    content: bytes
    is_program: bool = False
    link: str | None = None  # a symbolic link, and where it leads


def inspect(path: Path) -> dict[str, Any]:
    """The manifest of an archive that may be trusted to unpack."""
    if path.stat().st_size > MOST_ARCHIVE_BYTES:
        raise _refusal(
            say("The package is larger than {most} MiB.", most=MOST_ARCHIVE_BYTES // MIB)
        )
    with path.open("rb") as file:
        if file.read(2) != GZIP_MAGIC:
            raise _refusal(
                say("The package is not a .tar.gz; make one with `hostler package build`.")
            )
    try:
        manifest, programs = _walk(path)
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise _refusal(say("The package cannot be read: {why}.", why=str(error)[:200])) from None
    if manifest is None:
        raise _refusal(
            say(
                "The package has no {file} at its top; make one with `hostler package build`.",
                file=FILE_NAME,
            )
        )
    _check_named_files(manifest, programs)
    _check_templates(path, manifest)
    return manifest


def _walk(path: Path) -> tuple[dict[str, Any] | None, dict[str, bool]]:
    """Every member checked; the manifest, and for each file whether it can be run."""
    manifest, found, unpacked = None, dict[str, bool](), 0
    with _opened(path) as archive:
        for number, member in enumerate(archive):
            _check_member(member)
            unpacked += member.size
            if unpacked > MOST_UNPACKED_BYTES or number >= MOST_FILES:
                raise _refusal(TOO_MUCH)
            name = member.name.removeprefix("./")
            found[name] = bool(member.mode & 0o100) or not member.isreg()
            if name == FILE_NAME:
                manifest = _read_manifest(archive, member)
    return manifest, found


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive, of which no more is ever inflated than a package may hold."""
    with gzip.open(path) as inflated:
        pieces = iter(lambda: inflated.read(PIECE), b"")
        limited = Limited(pieces, MOST_UNPACKED_BYTES + 64 * MIB, packed=path.stat().st_size)
        with open_tar(limited) as archive:
            yield archive


@contextmanager
def open_tar(stream: "Limited") -> Iterator[tarfile.TarFile]:
    """A tar archive read from its beginning to its end, whose headers are bounded too."""
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
        yield archive


class _Member(tarfile.TarInfo):
    """A member whose extended header is small: tarfile reads one whole before it looks at it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in HEADERS and not 0 <= member.size <= MOST_HEADER_BYTES:
            raise _refusal(say("The package has a header that is larger than any needs to be."))
        return member


class Limited(io.RawIOBase):
    """A stream that ends with a refusal when too much comes out of it: a bomb must not go off.

    Too much is more than `most` bytes, or far more than any content packs to (`packed` bytes).
    """

    def __init__(self, pieces: Iterator[bytes], most: int, packed: int) -> None:
        self._pieces, self._rest = pieces, b""
        self._left = min(most, max(HARMLESS_BYTES, packed * MOST_TIMES_SMALLER))

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._left -= len(piece)
            if self._left < 0:
                raise _refusal(TOO_MUCH)
            self._rest += piece
        if size < 0:
            size = len(self._rest)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _check_member(member: tarfile.TarInfo) -> None:
    if not _stays_inside(member.name):
        raise _refusal(say("The package reaches out of its folder: {name!r}.", name=member.name))
    leads = posixpath.join(posixpath.dirname(member.name), member.linkname)
    if member.issym() and not _stays_inside(leads):
        raise _link_out(member)
    if member.islnk() and not _stays_inside(member.linkname):
        raise _link_out(member)
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise _refusal(
            say(
                "The package holds {name!r}, which is neither a file, a folder nor a link.",
                name=member.name,
            )
        )


def _link_out(member: tarfile.TarInfo) -> InvalidRequest:
    return _refusal(
        say(
            "The package has a link out of its folder: {name!r} -> {target!r}.",
            name=member.name,
            target=member.linkname,
        )
    )


def _stays_inside(name: str) -> bool:
    if name.startswith("/") or "\0" in name or "\\" in name:
        return False
    return not posixpath.normpath(name).startswith("..")


def _read_manifest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    if not member.isreg() or member.size > MOST_MANIFEST_BYTES:
        raise _refusal(say("The package has a {file} that is no ordinary file.", file=FILE_NAME))
    file = archive.extractfile(member)
    assert file is not None
    return parse_manifest(file.read().decode())


def _check_named_files(manifest: Mapping[str, Any], found: Mapping[str, bool]) -> None:
    for name in named_files(manifest):
        if name not in found:
            raise _refusal(say("The package lacks {name}, which its manifest names.", name=name))
    if not found[manifest["exec"][0]]:
        raise _refusal(
            say(
                "The package holds {name}, but not as a program that can be run.",
                name=manifest["exec"][0],
            )
        )


def _check_templates(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a configuration file no host could render."""
    formats = {item["source"]: item.get("format", "raw") for item in manifest.get("config", [])}
    if not formats:
        return
    with _opened(path) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if name in formats and (file := archive.extractfile(member)):
                check_template(name, file.read(MOST_TEMPLATE_BYTES), formats[name], manifest)


def _refusal(what: Sentence) -> InvalidRequest:
    return InvalidRequest(what, field="package")


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
