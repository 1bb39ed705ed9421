"""Accounts of the host that a program runs as and its files belong to."""

import os
import pwd

from .failure import Failure


def ids_of(name):
    """The user and group id of an account; None when it is our own, or none is named."""
    if not name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise Failure(
            "task_failed",
            f"The package runs as {name}, and there is no such account on this host. Create it "
            "there, or name another as user in the package's manifest.",
        ) from None
    if (entry.pw_uid, entry.pw_gid) == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() != 0:
        raise Failure(
            "privilege",
            f"The package runs as {name}, which needs root to arrange, and the login has uid "
            f"{os.geteuid()}. Use root, or an account that may sudo.",
        )
    return entry.pw_uid, entry.pw_gid


def become(name):
    """What a child does before it turns into the program, to run as that account."""
    ids = ids_of(name)
    if ids is None:
        return None

    def change():
        os.initgroups(name, ids[1])
        os.setgid(ids[1])
        os.setuid(ids[0])

    return change
