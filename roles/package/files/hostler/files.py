"""Change files so that every change can be taken back, and nothing is ever half written."""

import errno
import os
import re
import shutil
import stat


def read(path):
    """The file's bytes, or None when there is no such file; a pipe or device is never read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no ordinary file", path)
        return file.read()


class Was:
    """What stood at a path: nothing, a link, or a file with its content, mode and owner."""

    def __init__(self, path):
        self.path = path
        self.link = os.readlink(path) if os.path.islink(path) else None
        self.content = None if self.link is not None else read(path)
        self.stat = None if self.content is None else os.stat(path)

    def put_back(self):
        if self.link is not None:
            point(self.path, self.link)
        elif self.content is None:
            remove(self.path)
        else:
            theirs = (self.stat.st_uid, self.stat.st_gid)
            ours = (os.geteuid(), os.getegid())
            mode = stat.S_IMODE(self.stat.st_mode)
            replace(self.path, self.content, mode, theirs if theirs != ours else None)


def remove(path):
    """Remove whatever is there, if anything is."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def replace(path, content, mode, owner=None):
    """Put the file there in one step: readers see the old one or the new one.

    `owner`: user and group id; without one it is ours.
    """
    new = path + ".hostler-new"
    remove(new)
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
        os.replace(new, path)
    except OSError as error:
        remove(new)
        error.filename = path  # a full disk does not say which file was being written
        raise


def point(link, target):
    """Make the symbolic link lead there, in one step."""
    new = link + ".hostler-new"
    remove(new)
    os.symlink(target, new)
    os.replace(new, link)


class Changes:
    """What this run changed, in order; keep it or take it back."""

    def __init__(self, dry=False):
        self.dry = dry
        self.diff = []
        self._undo = []
        self._leftovers = []

    def folder(self, path, mode=0o755, owner=None):
        """Make the folder and its parents; `owner` is the folder's alone."""
        if self.dry or os.path.isdir(path):
            return
        self.folder(os.path.dirname(path))
        os.mkdir(path, mode)
        if owner is not None:
            os.chown(path, *owner)
        self._undo.append(lambda: os.path.isdir(path) and not os.listdir(path) and os.rmdir(path))

    def is_different(self, path, content, mode, owner=None):
        """Whether the file is not yet as it is wanted."""
        if os.path.islink(path) or read(path) != content:
            return True
        now = os.stat(path)
        is_theirs = owner is None or owner == (now.st_uid, now.st_gid)
        return (now.st_mode & 0o777) != mode or not is_theirs

    def write(self, path, content, mode=0o644, owner=None):
        """Write the file unless it is so already; true when it was not."""
        if not self.is_different(path, content, mode, owner):
            return False
        was = Was(path)
        self._show(path, was.content, content)
        if not self.dry:
            self.folder(os.path.dirname(path))
            self._undo.append(was.put_back)
            replace(path, content, mode, owner)
        return True

    def link(self, path, target):
        """Make the symbolic link lead there; true when it did not."""
        old = os.readlink(path) if os.path.islink(path) else None
        if old == target:
            return False
        self.diff.append({"header": path, "before": f"{old or ''}\n", "after": target + "\n"})
        if not self.dry:
            self._undo.append(lambda: point(path, old) if old else remove(path))
            point(path, target)
        return True

    def move(self, source, path):
        """Rename; whatever was at the new name is set aside first."""
        self.set_aside(path)
        self.folder(os.path.dirname(path))
        os.rename(source, path)
        self._undo.append(lambda: remove(path))

    def set_aside(self, path):
        """Take it out of the way; it goes for good when the changes are kept."""
        if self.dry or not os.path.lexists(path):
            return
        aside = _free_aside(path)
        os.rename(path, aside)
        self._undo.append(lambda: os.rename(aside, path))
        self._leftovers.append(aside)

    def unlink(self, path):
        """Remove the file; true when there was one."""
        was = Was(path)
        if was.link is None and was.content is None:
            return False
        self._show(path, was.content, b"")
        if not self.dry:
            self._undo.append(was.put_back)
            os.unlink(path)
        return True

    def scratch(self, path):
        """A place that is gone in the end, however it ends."""
        remove(path)
        self._leftovers.append(path)
        self._undo.append(lambda: remove(path))
        self.folder(os.path.dirname(path))
        os.mkdir(path, 0o700)

    def keep(self):
        """The changes stay; what they replaced goes. What could not go is returned in words."""
        self._undo = []
        troubles = []
        while self._leftovers:
            try:
                remove(self._leftovers.pop())
            except OSError as error:
                troubles.append(str(error))
        return troubles

    def take_back(self):
        """Undo in reverse order; what could not be undone is said, not hidden."""
        troubles = []
        while self._undo:
            try:
                self._undo.pop()()
            except OSError as error:
                troubles.append(str(error))
        return troubles

    def _show(self, path, old, new):
        self.diff.append(
            {
                "before_header": path,
                "after_header": path,
                "before": (old or b"").decode("utf-8", "replace"),
                "after": new.decode("utf-8", "replace"),
            }
        )


def aside_of(path):
    return os.path.join(os.path.dirname(path), ".aside-" + os.path.basename(path))


def _free_aside(path):
    """Where to set it aside: an earlier leftover that cannot be removed is no reason to fail."""
    aside, number = aside_of(path), 1
    while True:
        try:
            remove(aside)
            return aside
        except OSError:
            number += 1
            aside = f"{aside_of(path)}-{number}"


def mounts():
    """The places where something is mounted, as the kernel tells them."""
    with open("/proc/self/mountinfo", "rb") as file:
        fields = [os.fsdecode(line).split(" ") for line in file]
    return [
        re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), row[4])
        for row in fields
        if len(row) > 4
    ]


def mounts_below(folder):
    """The places at or below this folder where something is mounted."""
    folder = os.path.realpath(folder)
    return sorted(
        {place for place in mounts() if place == folder or place.startswith(folder + os.sep)}
    )


def mount_of(path):
    """The place whose mount holds this path, also where a folder is mounted on itself."""
    path = os.path.realpath(path)
    try:
        there = set(mounts())
    except OSError:
        there = set()
    while path != "/" and path not in there and not os.path.ismount(path):
        path = os.path.dirname(path)
    return path
