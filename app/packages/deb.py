"""Read Debian's packages without dpkg: streamed, and never more than a package may hold."""

import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.domain.errors import InvalidRequest
from app.domain.sentences import Sentence, say
from app.packages.archive import (
    MIB,
    MOST_ARCHIVE_BYTES,
    MOST_FILES,
    MOST_UNPACKED_BYTES,
    File,
    Limited,
    open_tar,
)

AR_MAGIC = b"!<arch>\n"
AR_HEAD = 60
MOST_MEMBERS = 16  # a .deb has three
MOST_CONTROL_BYTES = 8 * MIB
DICTIONARY_BYTES = 256 * MIB  # xz may ask for 4 GiB
PIECE = 64 * 1024


@dataclass(frozen=True)
class Deb:
    """An opened .deb: what its control file says, and where its members lie in the file."""

    path: Path
    fields: Mapping[str, str]
    members: Mapping[str, tuple[int, int]]

    def files(self, names: Collection[str]) -> dict[str, File]:
        """Those of its files that are asked for, as far as it has them."""
        found = dict[str, File]()
        with _tar(self.path, self.members, "data.tar", MOST_UNPACKED_BYTES) as archive:
            for number, member in enumerate(archive):
                name = posixpath.normpath(member.name)
                if number > MOST_FILES:
                    raise _refusal(say("This .deb unpacks to more than a package may."))
                if name not in names:
                    continue
                if member.issym():
                    found[name] = File(b"", link=member.linkname)
                elif member.isreg() and (file := archive.extractfile(member)):
                    found[name] = File(file.read(), is_program=bool(member.mode & 0o100))
        return found


def read_deb(path: Path) -> Deb:
    """Open a .deb and read its control fields; Package, Version and Architecture are there."""
    if path.stat().st_size > MOST_ARCHIVE_BYTES:
        raise _refusal(say("This .deb is larger than {most} MiB.", most=MOST_ARCHIVE_BYTES // MIB))
    members = _members(path)
    with _tar(path, members, "control.tar", MOST_CONTROL_BYTES) as archive:
        text = _control_text(archive)
    fields = _fields(text)
    if not {"Package", "Version", "Architecture"} <= fields.keys():
        what = say("{file} is a .deb without a name, version and architecture.", file=path.name)
        raise _refusal(what)
    return Deb(path, fields, members)


def _control_text(archive: tarfile.TarFile) -> str:
    for number, member in enumerate(archive):
        if number > MOST_FILES:
            break
        if posixpath.normpath(member.name) == "control" and member.isreg():
            file = archive.extractfile(member)
            assert file is not None
            return file.read(MIB).decode(errors="replace")
    return ""


def _members(path: Path) -> dict[str, tuple[int, int]]:
    """Where each member of the ar archive begins, and its size."""
    members, whole = dict[str, tuple[int, int]](), path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(AR_MAGIC)) != AR_MAGIC:
            raise _refusal(say("This is not a .deb."))
        while len(head := file.read(AR_HEAD)) == AR_HEAD:
            name = head[:16].decode("ascii", "replace").strip().rstrip("/")
            digits, at = head[48:58].strip(), file.tell()
            if not digits.isdigit() or at + int(digits) > whole or len(members) >= MOST_MEMBERS:
                raise _refusal(say("This .deb is damaged."))
            members.setdefault(name, (at, int(digits)))
            file.seek(at + int(digits) + int(digits) % 2)
    return members


@contextmanager
def _tar(
    path: Path, members: Mapping[str, tuple[int, int]], name: str, most: int
) -> Iterator[tarfile.TarFile]:
    """One of the .deb's tar archives, inflated piece by piece."""
    full_name = next((found for found in members if found.startswith(name)), None)
    if full_name is None:
        raise _refusal(say("This .deb has no {name}.", name=name))
    at, size = members[full_name]
    try:
        with path.open("rb") as file:
            file.seek(at)
            stream = Limited(_inflated(full_name, file, size), most, packed=size)
            with open_tar(stream) as archive:
                yield archive
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error, ValueError) as error:
        why = say("This .deb cannot be read: {why}.", why=str(error)[:200])
        raise _refusal(why) from None


def _inflated(name: str, file: BinaryIO, size: int) -> Iterator[bytes]:
    packed = _pieces(file, size)
    match name.rpartition(".")[2]:
        case "xz" | "lzma":
            inflate = lzma.LZMADecompressor(memlimit=DICTIONARY_BYTES)
            return _by_lzma(inflate, packed)
        case "gz":
            return _by_zlib(packed)
        case "tar":
            return packed
        case other:
            unknown = say(
                "This .deb is packed with {other}, which cannot be read here; unpack it with "
                "`dpkg-deb -x` and build from the folder.",
                other=other,
            )
            raise _refusal(unknown)


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(PIECE, size))):
        size -= len(piece)
        yield piece


def _by_lzma(inflate: lzma.LZMADecompressor, packed: Iterator[bytes]) -> Iterator[bytes]:
    for piece in packed:
        yield inflate.decompress(piece, PIECE)
        while not (inflate.needs_input or inflate.eof):
            yield inflate.decompress(b"", PIECE)


def _by_zlib(packed: Iterator[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj(wbits=31)
    for piece in packed:
        yield inflate.decompress(piece, PIECE)
        while inflate.unconsumed_tail:
            yield inflate.decompress(inflate.unconsumed_tail, PIECE)


def _fields(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith((" ", "#")))
    return {name: value.strip() for name, colon, value in lines if colon}


def _refusal(why: Sentence) -> InvalidRequest:
    return InvalidRequest(why, field="package")
