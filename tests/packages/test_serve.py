"""Hosts fetch packages by signed addresses from a listener that knows nothing else."""

import hashlib
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from app.access.vault import Vault
from app.domain.errors import NotFound
from app.models.base import reading, transaction
from app.models.package import Package, PackageChunk
from app.packages.add import CHUNK_BYTES, add_package
from app.packages.choose import choose_packages, version_order
from app.packages.list import get_package, list_packages
from app.packages.prefer import prefer_package
from app.packages.remove import remove_package
from app.packages.serve import Cache
from app.packages.sign import sign_url, signing_key
from app.settings import Settings
from tests.packages.agents import a_package

HOUR = timedelta(hours=1)


@pytest.fixture
def package(engine: Engine, archive: Path) -> Package:
    with transaction(engine) as session:
        return add_package(session, archive, created_by="somebody")


@pytest.fixture
def url(settings: Settings, listener: str, package: Package) -> str:
    return sign_url(listener, package.sha256, signing_key(settings.key_file), HOUR)


def test_a_signed_address_gives_exactly_the_bytes(url: str, archive: Path) -> None:
    status, headers, body = fetch(url)

    assert (status, body) == (200, archive.read_bytes())
    assert headers["ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'


def test_a_range_gives_a_part(url: str, archive: Path) -> None:
    status, headers, body = fetch(url, Range="bytes=100-199")

    assert (status, body) == (206, archive.read_bytes()[100:200])
    assert headers["Content-Range"] == f"bytes 100-199/{archive.stat().st_size}"


def test_what_is_known_already_is_not_sent_again(url: str, package: Package) -> None:
    status, _, body = fetch(url, **{"If-None-Match": f'"{package.sha256}"'})

    assert (status, body) == (304, b"")


def test_head_gives_the_size_alone(url: str, archive: Path) -> None:
    status, headers, body = fetch(url, method="HEAD")

    assert (status, body) == (200, b"")
    assert headers["Content-Length"] == str(archive.stat().st_size)


def test_without_a_signature_nothing_is_given(listener: str, package: Package) -> None:
    assert fetch(f"{listener}/packages/{package.sha256}")[0] == 403


@pytest.mark.parametrize("change", ["sig", "exp"])
def test_a_changed_address_is_refused(url: str, change: str) -> None:
    at = url.index(f"{change}=") + len(change) + 1
    changed = url[:at] + ("9" if url[at] != "9" else "8") + url[at + 1 :]

    assert fetch(changed)[0] == 403


def test_an_expired_address_is_gone(settings: Settings, listener: str, package: Package) -> None:
    url = sign_url(listener, package.sha256, signing_key(settings.key_file), -HOUR)

    assert fetch(url)[0] == 410


def test_a_signature_for_one_package_opens_no_other(url: str, package: Package) -> None:
    assert fetch(url.replace(package.sha256, "0" * 64))[0] == 403


def test_an_unknown_package_is_not_found(settings: Settings, listener: str) -> None:
    assert fetch(sign_url(listener, "0" * 64, signing_key(settings.key_file), HOUR))[0] == 404


@pytest.mark.parametrize("path", ["/", "/packages/", "/packages/../keys", "/packages/" + "x" * 64])
def test_the_listener_knows_nothing_else(listener: str, path: str) -> None:
    assert fetch(listener + path)[0] == 404


def test_nothing_can_be_sent_to_the_listener(url: str) -> None:
    assert fetch(url, method="POST")[0] == 405


def test_an_older_key_is_accepted_after_a_new_one_was_added(settings: Settings, url: str) -> None:
    Vault(settings.key_file).add_key()

    assert fetch(url)[0] == 200


def test_many_hosts_at_once_fill_the_cache_once(
    url: str, archive: Path, settings: Settings
) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = [*pool.map(fetch, [url] * 32)]

    assert {(status, body) for status, _, body in answers} == {(200, archive.read_bytes())}
    assert [path.name for path in (settings.data_dir / "packages").iterdir()] == [
        hashlib.sha256(archive.read_bytes()).hexdigest()
    ]


def test_a_spoilt_copy_of_an_earlier_process_is_replaced(
    settings: Settings, url: str, package: Package, archive: Path
) -> None:
    folder = settings.data_dir / "packages"
    folder.mkdir()
    (folder / package.sha256).write_bytes(b"spoilt")

    assert fetch(url)[2] == archive.read_bytes()


def test_bytes_that_were_damaged_in_the_database_are_not_served(
    engine: Engine, url: str, package: Package
) -> None:
    with transaction(engine) as session:
        session.execute(update(PackageChunk).values(content=b"damaged"))

    status, _, body = fetch(url)

    assert status == 404
    assert b"damaged; remove it" in body


@pytest.mark.parametrize("wanted", ["______", "%%%%%%", "²", "9" * 30])
def test_what_names_no_package_finds_none(engine: Engine, package: Package, wanted: str) -> None:
    with reading(engine) as session, pytest.raises(NotFound):
        get_package(session, wanted)


def test_a_removed_package_is_gone_from_the_cache(
    settings: Settings, engine: Engine, url: str, package: Package
) -> None:
    assert fetch(url)[0] == 200
    with transaction(engine) as session:
        remove_package(session, get_package(session, str(package.id)))

    other_process = Cache(engine, settings.data_dir / "packages")
    with pytest.raises(Exception, match="no such package"):
        other_process.get(package.sha256)
    assert not (settings.data_dir / "packages" / package.sha256).exists()


# --- add, list, choose --------------------------------------------------------------------------


def test_a_large_package_is_stored_in_pieces(session: Session, tmp_path: Path) -> None:
    noise = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(40_000))
    archive = a_package(tmp_path, behaviour=f"# {noise.hex()}\n")

    package = add_package(session, archive)

    chunks = session.query(PackageChunk).order_by(PackageChunk.number).all()
    assert len(chunks) == -(-archive.stat().st_size // CHUNK_BYTES) > 1
    assert b"".join(chunk.content for chunk in chunks) == archive.read_bytes()
    assert package.size == archive.stat().st_size


def test_adding_twice_is_the_same_as_once(session: Session, archive: Path) -> None:
    first, second = add_package(session, archive), add_package(session, archive)

    assert first.id == second.id
    assert len(list_packages(session)) == 1


def test_the_newest_version_is_chosen_for_each_cpu(session: Session, tmp_path: Path) -> None:
    for version, cpu in (("1.9", "x86_64"), ("1.10", "x86_64"), ("1.2", "aarch64")):
        add_package(session, a_package(tmp_path / f"{version}{cpu}", version, cpu=cpu))

    chosen = choose_packages(session, "agent", "LINUX", None)

    assert [(p.cpu, p.version) for p in chosen] == [("aarch64", "1.2"), ("x86_64", "1.10")]


def test_a_default_wins_over_a_newer_one(session: Session, tmp_path: Path) -> None:
    old = add_package(session, a_package(tmp_path / "a", "1.0", cpu="x86_64"))
    add_package(session, a_package(tmp_path / "b", "2.0", cpu="x86_64"))
    prefer_package(session, old)

    assert choose_packages(session, "agent", "LINUX", None) == [old]
    assert choose_packages(session, "agent", "LINUX", "2.0")[0].version == "2.0"
    assert choose_packages(session, "agent", "LINUX", "3.0") == []
    assert choose_packages(session, "plugin", "LINUX", None) == []


def test_versions_are_ordered_as_people_read_them() -> None:
    ordered = ["0.9", "1.0~rc1", "1.0", "1.0-1", "1.0-1+b2", "1.0.1", "1.9", "1.10", "2"]

    by_letters = sorted(ordered)
    assert by_letters != ordered
    assert sorted(by_letters, key=version_order) == ordered


def fetch(
    url: str, method: str = "GET", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_an_address_expires_when_it_says(settings: Settings) -> None:
    before = time.time()
    url = sign_url("http://h:1/", "0" * 64, signing_key(settings.key_file), HOUR)
    after = time.time()

    expires = int(url.partition("exp=")[2].partition("&")[0])
    assert int(before) <= expires - 3600 <= after
    assert url.startswith(f"http://h:1/packages/{'0' * 64}?")
