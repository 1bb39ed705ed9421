"""What went wrong, as a cause for programs and a sentence for people."""

import errno
import os

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


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
        return Failure("disk_full", _full(path))
    if error.errno in DENIED:
        return Failure("privilege", _denied(path, error))
    return Failure("task_failed", f"{path}: {error.strerror or error}")


def _full(path):
    place = _mount_of(path)
    free = os.statvfs(place)
    kib = free.f_bavail * free.f_frsize // 1024
    return f"The disk is full: {kib} KiB are free on {place}. Make room there and retry."


def _mount_of(path):
    while not os.path.ismount(path):
        path = os.path.dirname(os.path.abspath(path))
    return path


def _denied(path, error):
    return (
        f"The login (uid {os.geteuid()}) may not write {path}: {error.strerror}. "
        "Use root, or an account that may sudo."
    )
