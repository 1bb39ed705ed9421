"""Where things may be put on a host."""

import posixpath


def path_problem(path: str) -> str | None:
    """Why no host can have this as the place for anything, or None."""
    if not path.startswith("/") or ".." in path.split("/") or any(c < " " for c in path):
        return f"{path!r} is no absolute path"
    if posixpath.normpath(path) in ("/", "//"):
        return f"{path!r} cannot be the place for anything"
    return None
