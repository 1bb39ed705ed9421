"""Choose the packages a job installs: one per cpu."""

import re
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.models.package import Package

NEWEST = ("", "latest", "stable", "legacy")  # words for "whatever is current"
PUBLISHED = ("gse_agent", "gse_proxy")  # what clients of the original call its packages


def choose_packages(
    session: Session, kind: str, os: str, version: str | None, name: str | None = None
) -> list[Package]:
    """The ready packages of that version, else the default ones or the newest; empty when none."""
    query = select(Package).where(Package.ready, Package.kind == kind, Package.os == os.upper())
    if name:
        query = query.where(Package.name == name)
    if version and version not in NEWEST:
        query = query.where(Package.version == version)
    best = dict[str, Package]()
    for package in sorted(session.scalars(query), key=_preference):
        best[package.cpu] = package
    return [best[cpu] for cpu in sorted(best)]


def meant_name(session: Session, name: str | None) -> str | None:
    """The package a caller means by this name; a published name means any where none has it."""
    if name not in PUBLISHED:
        return name
    return session.scalar(select(Package.name).where(Package.name == name).limit(1))


def describe_candidate(package: Package, url: str) -> dict[str, Any]:
    """What the package role wants to know of a package."""
    return {
        "name": package.name,
        "version": package.version,
        "os": package.os,
        "cpu": package.cpu,
        "sha256": package.sha256,
        "size": package.size,
        "url": url,
        "manifest": package.manifest,
    }


def _preference(package: Package) -> tuple[bool, list[tuple[int, int, str]], int]:
    """The last one wins: a default, then the newest version, then the one added last."""
    return package.is_default, version_order(package.version), package.id


def version_order(version: str) -> list[tuple[int, int, str]]:
    """1.10 after 1.9, 1.0 after 1.0~rc1 and before 1.0-1."""
    order: list[tuple[int, int, str]] = []
    for part in re.findall(r"\d+|~|[^\d~]+", version):
        if part == "~":
            order.append((-1, 0, ""))
        elif part.isdigit():
            order.append((2, int(part), ""))
        else:
            order.append((1, 0, part))
    return [*order, (0, 0, "")]
