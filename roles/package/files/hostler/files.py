"""Change files so that every change can be taken back, and nothing is ever half written."""

import os
import shutil


def read(path):
    """The file's bytes, or None when there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


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
        if read(path) != content:
            return True
        now = os.stat(path)
        is_theirs = owner is None or owner == (now.st_uid, now.st_gid)
        return (now.st_mode & 0o777) != mode or not is_theirs

    def write(self, path, content, mode=0o644, owner=None):
        """Write the file unless it is so already; true when it was not."""
        if not self.is_different(path, content, mode, owner):
            return False
        old = read(path)
        self._show(path, old, content)
        if not self.dry:
            self.folder(os.path.dirname(path))
            was = os.stat(path) if old is not None else None
            self._undo.append(lambda: self._put_back(path, old, was))
            replace(path, content, mode, owner)
        return True

    def _put_back(self, path, old, was):
        if old is None:
            remove(path)
        else:
            theirs = (was.st_uid, was.st_gid)
            ours = (os.geteuid(), os.getegid())
            replace(path, old, was.st_mode & 0o777, theirs if theirs != ours else None)

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
        aside = aside_of(path)
        remove(aside)
        os.rename(path, aside)
        self._undo.append(lambda: os.rename(aside, path))
        self._leftovers.append(aside)

    def unlink(self, path):
        """Remove the file; true when there was one."""
        old = read(path)
        if old is None:
            return False
        self._show(path, old, b"")
        if not self.dry:
            was = os.stat(path)
            self._undo.append(lambda: self._put_back(path, old, was))
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
        """The changes stay; what they replaced goes."""
        self._undo = []
        while self._leftovers:
            remove(self._leftovers.pop())

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
