"""What went wrong, as a cause for programs and a sentence for people."""

import errno
import os

from . import files

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM)
NOT_THE_NET = (*FULL, *DENIED, errno.EROFS)  # what writing ends with, and no network does


class Failure(Exception):
    """The work cannot go on: why, in one word and in one sentence that says what to do."""

    def __init__(self, cause, reason):
        Exception.__init__(self, reason)
        self.cause = cause
        self.reason = reason


def explain(error):
    """The failure behind any exception."""
    if isinstance(error, Failure):
        return error
    if not isinstance(error, OSError):
        return Failure("task_failed", f"{type(error).__name__}: {error}")
    path = error.filename if isinstance(error.filename, str) else "a file"
    if error.errno in FULL:
        return Failure("disk_full", _full(path, error))
    if error.errno == errno.EROFS:
        return Failure("task_failed", read_only(path))
    if error.errno in DENIED:
        return Failure("privilege", _denied(path, error))
    return Failure("task_failed", f"{path}: {error.strerror or error}")


def _full(path, error):
    place = files.mount_of(path)
    if error.errno == errno.EDQUOT:
        return f"The quota of this login on {place} is used up. Make room there and retry."
    free = os.statvfs(place)
    if free.f_files and not free.f_favail:
        return (
            f"No inodes are free on {place}, so no file can be made there, however much room is "
            "left. Remove files there and retry."
        )
    kib = free.f_bavail * free.f_frsize // 1024
    return f"The disk is full: {kib} KiB are free on {place}. Make room there and retry."


def read_only(path):
    place = files.mount_of(path)
    return (
        f"{place} is mounted read-only, so {path} cannot be changed. If nobody meant that, the "
        f"kernel did it after an error of the disk: look at dmesg. Use: mount -o remount,rw {place}"
        "; then retry."
    )


def _denied(path, error):
    return (
        f"The login (uid {os.geteuid()}) may not write {path}: {error.strerror}. "
        "Use root, or an account that may sudo."
    )
