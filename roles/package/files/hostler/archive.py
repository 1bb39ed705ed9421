"""Fetch a package and unpack it: nothing is believed that was not checked."""

import hashlib
import http.client
import json
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request

from .failure import NOT_THE_NET, Failure

MANIFEST = "hostler-package.yaml"  # written as JSON, which every YAML reader understands
PIECE = 1024 * 1024
CONNECT_SECONDS = 15
ATTEMPTS = 3
MOST_BYTES = 4 * 1024**3
MOST_FILES = 100000
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


class Retryable(Exception):
    """Trying once more may help."""


def fetch(package, path, watch):
    """Download the package and verify its checksum."""
    place = _place(package["url"])
    trouble = None
    for attempt in range(ATTEMPTS):
        try:
            watch.attend(lambda: _download(package, path, watch))
            return
        except Retryable as error:
            trouble = error
            if attempt + 1 < ATTEMPTS:
                watch.wait(0.5 * 2**attempt)
    raise Failure(
        "package_unreachable",
        f"The package cannot be fetched from {place}: {trouble}. Check that this host reaches "
        "that address, and the access point's URL." + _beside_proxies(),
    )


def _beside_proxies():
    """What a person has to know whose own programs get there through a proxy."""
    named = [name for name in PROXIES if os.environ.get(name)]
    if not named:
        return ""
    return (
        " Packages are fetched straight, never through the proxy that {} of this host's "
        "environment names."
    ).format(" and ".join(named))


def verify(package, path):
    """Refuse an archive that was sent along and is not what its name says."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(PIECE), b""):
            digest.update(piece)
    _compare(package, digest)


def _place(url):
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Failure("package_unreachable", f"The package's address is no http address: {url}")
    return "{}://{}".format(parts.scheme, parts.netloc.rpartition("@")[2])


def _download(package, path, watch):
    digest, size = hashlib.sha256(), 0
    try:
        with _open(package["url"]) as answer, open(path, "wb") as file:
            for piece in iter(lambda: answer.read(PIECE), b""):
                if watch.stopped:
                    return
                digest.update(piece)
                size += len(piece)
                _refuse_more(package, size)
                file.write(piece)
    except http.client.HTTPException as error:
        raise Retryable(str(error) or type(error).__name__) from error
    except OSError as error:
        if error.errno in NOT_THE_NET:
            error.filename = path
            raise
        raise Retryable(error.strerror or str(error)) from error
    if size < int(package["size"]):
        raise Retryable(f"it ended after {size} of {package['size']} bytes")
    _compare(package, digest)


def _open(url):
    """Only http and https, straight: no proxies, no redirects, no file:// or ftp://."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    try:
        return opener.open(url, timeout=CONNECT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:
            raise Retryable(f"it answers {error.code} {error.reason}") from error
        raise Failure("package_unreachable", _refusal(url, error)) from error
    except urllib.error.URLError as error:
        raise Retryable(str(getattr(error.reason, "strerror", None) or error.reason)) from error


def _refusal(url, error):
    why = {
        403: "its signature is not accepted; the key of the packages may have changed. Retry",
        404: "there is no such package any more. Add it again and retry",
        410: "its address has expired. Retry: every run signs a new one",
    }.get(error.code, "check the access point's URL")
    return f"{_place(url)} answers {error.code} {error.reason} for the package: {why}."


def _refuse_more(package, size):
    if size > int(package["size"]):
        raise Failure("checksum", "More bytes came than the package has. " + _mistrust(package))


def _compare(package, digest):
    if digest.hexdigest() != package["sha256"]:
        found = "The bytes that came have the checksum {}, not {}. ".format(
            digest.hexdigest()[:12],
            package["sha256"][:12],
        )
        raise Failure("checksum", found + _mistrust(package))


def _mistrust(package):
    source = _place(package["url"]) if package.get("url") else "the controller"
    return f"Nothing was installed. Look for a broken cache or relay between {source} and here."


def read_manifest(path):
    """The manifest of an archive that was sent along."""
    try:
        with tarfile.open(path, "r:gz") as tar:
            return json.loads(tar.extractfile(MANIFEST).read(PIECE).decode())
    except (tarfile.TarError, EOFError, KeyError, ValueError, AttributeError) as error:
        raise Failure(
            "task_failed",
            f"{path} is not a package ({error}). Make one with: hostler package build",
        ) from error


def unpack(path, folder, watch):
    """Unpack into the folder; an archive that reaches out of it is refused."""
    end = None
    try:
        with tarfile.open(path, "r:gz") as tar:
            written = 0
            for number, member in enumerate(tar):
                watch.look()
                written += member.size
                if written > MOST_BYTES or number > MOST_FILES:
                    raise Failure("task_failed", "The package is too large to unpack.")
                _extract(tar, member, folder)
                end = member
    except (tarfile.TarError, EOFError) as error:
        after = f" after {end.name}" if end else ""
        raise Failure("task_failed", f"The package cannot be unpacked{after}: {error}.") from error


def _extract(tar, member, folder):
    path = _inside(folder, member.name, member.name)
    os.makedirs(path if member.isdir() else os.path.dirname(path), mode=0o755, exist_ok=True)
    if member.isfile():
        _copy(tar.extractfile(member), path)
        os.chmod(path, member.mode & 0o755 | 0o600)
    elif member.issym():
        _inside(folder, os.path.join(os.path.dirname(member.name), member.linkname), member.name)
        os.symlink(member.linkname, path)
    elif member.islnk():
        os.link(_inside(folder, member.linkname, member.name), path)
    elif not member.isdir():
        raise Failure("task_failed", f"The package holds {member.name}, which is no file.")


def _copy(source, path):
    try:
        with source, open(path, "wb") as file:
            shutil.copyfileobj(source, file, PIECE)
    except OSError as error:
        error.filename = path  # a full disk does not say which file was being written
        raise


def _inside(folder, name, said):
    """The path of a member, which must not leave the folder, also not through a link."""
    path = os.path.normpath(os.path.join(folder, name))
    parent = os.path.realpath(os.path.dirname(path))
    is_inside = _is_below(path, os.path.normpath(folder)) and _is_below(
        parent, os.path.realpath(folder) if path != folder else parent
    )
    if name.startswith("/") or "\0" in name or not is_inside:
        raise Failure("task_failed", f"The package reaches out of its folder: {said}.")
    return path


def _is_below(path, root):
    return path == root or path.startswith(root + os.sep)


def stamp():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
