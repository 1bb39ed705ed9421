"""What the first start leaves behind: tables, zone 0, and an administrator."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.access.access_keys import create_access_key
from app.access.apps import create_app, list_apps
from app.access.users import create_user, list_users
from app.jobs.context import Context
from app.migrations import upgrade
from app.models.base import transaction
from app.zones.first_start import ensure_first_zone

USER, APP = "admin", "hostler"


def first_start(ctx: Context) -> None:
    """Bring the database up to date; where nobody can sign in yet, make an administrator."""
    prepare_database(ctx.engine)
    admin_file = ctx.settings.data_dir / "admin.json"
    with transaction(ctx.engine) as session:
        if not list_users(session) and not list_apps(session):
            # written before the commit: no administrator without a password anybody knows
            write_private(admin_file, make_administrator(ctx, session))
    tell_url(admin_file, ctx.settings.site)


def prepare_database(engine: Engine) -> None:
    """The newest tables, and the zone and access point that are always there."""
    upgrade(engine)
    with transaction(engine) as session:
        ensure_first_zone(session)


def make_administrator(ctx: Context, session: Session) -> dict[str, str]:
    """A person and a program that may do everything, and how they prove themselves."""
    password = secrets.token_urlsafe(18)
    create_user(session, USER, password, "admin")
    pair = create_access_key(session, ctx.vault, USER)
    return {
        "url": ctx.settings.site,
        "app_code": APP,
        "app_secret": create_app(session, APP, "admin"),
        "username": USER,
        "password": password,
        "access_key": pair.access_key,
        "secret_key": pair.secret_key,
    }


def tell_url(admin_file: Path, url: str) -> None:
    """Keep the file's URL true: the port may be another one today."""
    try:
        admin = json.loads(admin_file.read_text())
    except FileNotFoundError:
        return  # moved to a safer place; it is not ours to bring back
    if admin.get("url") != url:
        write_private(admin_file, {**admin, "url": url})


def write_private(path: Path, content: dict[str, Any]) -> None:
    """A file only we can read, there as a whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
