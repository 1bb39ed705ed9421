"""Authorise Hostler's own key for an account, and take that back."""

import os
import pwd
import tempfile
from contextlib import contextmanager

from .failure import Failure

MARK = "hostler-standing-access"


def authorise(key, account, root):
    """Let this key log in to the account; true when it could not before."""
    kind, body = _parse(key)
    with _acting_as(account) as person:
        path = _file_of(person, root)
        lines = _lines(path)
        if any(_holds(line, body) for line in lines):
            return False
        _write(path, [*lines, f"{kind} {body} {MARK}"])
    return True


def is_authorised(key, account, root):
    """Whether this key may log in to the account, as far as its own file says."""
    body = _parse(key)[1]
    with _acting_as(account) as person:
        return any(_holds(line, body) for line in _lines(_file_of(person, root)))


def withdraw(key, account, root):
    """Do not let this key log in any more; true when it could."""
    body = _parse(key)[1]
    with _acting_as(account) as person:
        path = _file_of(person, root)
        lines = _lines(path)
        left = [line for line in lines if not _holds(line, body)]
        if left == lines:
            return False
        _write(path, left)
    return True


def _parse(key):
    parts = key.split()
    if len(parts) < 2 or not parts[0].startswith(("ssh-", "ecdsa-", "sk-")) or "\n" in key.strip():
        raise Failure("task_failed", "The standing key is not one public key line.")
    return parts[0], parts[1]


def _holds(line, body):
    return not line.lstrip().startswith("#") and body in line.split()


def _file_of(person, root):
    return os.path.join(root + person.pw_dir, ".ssh", "authorized_keys")


def _lines(path):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _write(path, lines):
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.makedirs(folder, mode=0o700)
    path = os.path.realpath(path)
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o600
    handle, new = tempfile.mkstemp(dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write("".join(line + "\n" for line in lines))
            os.fchmod(file.fileno(), mode)
        os.replace(new, path)
    except OSError:
        os.unlink(new)
        raise


@contextmanager
def _acting_as(account):
    """Become the account: root must not follow links somebody else may have placed in a home."""
    try:
        person = pwd.getpwnam(account) if account else pwd.getpwuid(os.getuid())
    except KeyError as error:
        raise Failure("privilege", f"There is no account {account} on this host.") from error
    if os.geteuid() != 0 or person.pw_uid == 0:
        yield person
        return
    old_group = os.getegid()
    os.setegid(person.pw_gid)
    os.seteuid(person.pw_uid)
    try:
        yield person
    finally:
        os.seteuid(0)
        os.setegid(old_group)
