"""Folders and files that are ours alone, judged by what was opened and not by a name."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from app.domain.errors import InvalidRequest
from app.domain.sentences import say


class NotPrivate(InvalidRequest):
    """Somebody else could read or change what has to be ours alone."""


def private_folder(path: Path, setting: str) -> Path:
    """Make the folder with mode 0700, or take one that is ours; raises NotPrivate.

    Anybody may make a name of ours first where everybody may write, such as in /dev/shm: as a
    folder of theirs, or as a link to one of ours.
    """
    with suppress(FileExistsError):
        path.mkdir(parents=True, mode=0o700)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        raise NotPrivate(
            say(
                "{path} is a link or no folder, and not ours. Remove it, or name another place by"
                " {setting}.",
                path=path,
                setting=setting,
            )
        ) from None
    try:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid():
            raise NotPrivate(
                say(
                    "{path} belongs to another user (uid {uid}). Remove it, or name another place"
                    " by {setting}.",
                    path=path,
                    uid=found.st_uid,
                    setting=setting,
                )
            )
        if found.st_mode & 0o077:
            os.fchmod(handle, 0o700)
    finally:
        os.close(handle)
    return path


def read_private(path: Path) -> tuple[os.stat_result, str]:
    """What a file of secrets says, and what it is; both from one descriptor. Raises NotPrivate."""
    with path.open() as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivate(say("{path} is no ordinary file.", path=path))
        if found.st_uid not in (os.geteuid(), 0):
            raise NotPrivate(
                say("{path} belongs to another user (uid {uid}).", path=path, uid=found.st_uid)
            )
        return found, file.read()
