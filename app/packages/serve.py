"""Serve the bytes of packages to hosts, from a verified local copy; nothing else."""

import hashlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from werkzeug.exceptions import Forbidden, Gone, HTTPException, MethodNotAllowed, NotFound
from werkzeug.utils import send_file
from werkzeug.wrappers import Request, Response

from app.models.base import open_database, reading
from app.models.package import Package, PackageChunk
from app.packages.sign import is_signed, signing_keys
from app.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = re.compile(r"/packages/([0-9a-f]{64})")
CHECK_AGAIN = 10.0  # seconds until a removed package is noticed


def create_package_listener(settings: Settings) -> "PackageListener":
    """The WSGI application for hosts: GET and HEAD of /packages/<sha256>?exp&sig."""
    return PackageListener(settings, open_database(settings.database))


class PackageListener:
    """Hands out packages whose address is signed and has not expired."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine
        self.cache = Cache(engine, settings.data_dir / "packages")

    def close(self) -> None:
        self.engine.dispose()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        return self.answer(Request(environ))(environ, start_response)

    def answer(self, request: Request) -> Response:
        try:
            return self._answer(request)
        except HTTPException as error:
            text = f"{error.code} {error.name}: {error.description}\n"
            return Response(text, error.code, content_type="text/plain; charset=utf-8")

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(["GET", "HEAD"])
        if not (match := PATH.fullmatch(request.path)):
            raise NotFound("Only packages are served here.")
        sha256 = match[1]
        self._check_signature(request, sha256)
        return send_file(
            self.cache.get(sha256),
            request.environ,
            mimetype="application/gzip",
            conditional=True,
            etag=sha256,
        )

    def _check_signature(self, request: Request, sha256: str) -> None:
        expires, signature = request.args.get("exp", ""), request.args.get("sig", "")
        if not re.fullmatch(r"[0-9]{1,12}", expires):
            raise Forbidden("The address is not signed.")
        if not is_signed(sha256, int(expires), signature, self._keys()):
            raise Forbidden("The signature of the address is wrong.")
        if int(expires) < time.time():
            raise Gone("The address has expired; every run gets a new one.")

    def _keys(self) -> list[bytes]:
        return signing_keys(self.settings.key_file)


class Cache:
    """Local copies of packages, each verified against its checksum before it is served."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, float] = {}  # when this process last saw it in the database

    def get(self, sha256: str) -> Path:
        """The file with exactly these bytes."""
        path = self.folder / sha256
        if time.monotonic() < self._known.get(sha256, 0.0) and path.exists():
            return path
        with self._lock:  # many hosts ask at once: one fills, the others wait for it
            self._fill(sha256, path)
        return path

    def _fill(self, sha256: str, path: Path) -> None:
        with reading(self.engine) as session:
            package = session.scalar(select(Package).where(Package.sha256 == sha256, Package.ready))
            if package is None:
                path.unlink(missing_ok=True)
                self._known.pop(sha256, None)
                raise NotFound("There is no such package.")
            if not self._is_verified(sha256, path):
                self._copy(session, package, path)
        self._known[sha256] = time.monotonic() + CHECK_AGAIN

    def _is_verified(self, sha256: str, path: Path) -> bool:
        """A copy an earlier process left is checked once before it is believed."""
        if not path.exists():
            return False
        if sha256 in self._known:
            return True
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256

    def _copy(self, session: Session, package: Package, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest = hashlib.sha256()
        handle, draft = tempfile.mkstemp(dir=self.folder, prefix=".")
        try:
            with os.fdopen(handle, "wb") as file:
                number = 0
                while (content := _chunk(session, package.id, number)) is not None:
                    digest.update(content)
                    file.write(content)
                    number += 1
            if digest.hexdigest() != package.sha256:
                raise NotFound("The stored package is damaged; remove it and add it again.")
            os.replace(draft, path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise


def _chunk(session: Session, package_id: int, number: int) -> bytes | None:
    """One piece at a time: a package need not fit into memory."""
    return session.scalar(
        select(PackageChunk.content).where(
            PackageChunk.package_id == package_id, PackageChunk.number == number
        )
    )
