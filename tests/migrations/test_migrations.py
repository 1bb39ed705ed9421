"""A migrated database is what the models say, however often and from wherever it is migrated."""

import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect

from app.migrations import all_tables, config_for, upgrade
from app.models.base import open_database


def test_a_migrated_database_is_what_the_models_say(engine: Engine) -> None:
    upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, all_tables()) == []


def test_migrating_twice_is_the_same_as_once(engine: Engine) -> None:
    upgrade(engine)
    before = inspect(engine).get_table_names()
    upgrade(engine)
    assert inspect(engine).get_table_names() == before
    assert "job" in before


def test_there_is_one_line_of_history(engine: Engine) -> None:
    with engine.connect() as connection:
        assert len(ScriptDirectory.from_config(config_for(connection)).get_heads()) == 1


def test_two_processes_may_start_on_an_empty_database_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hostler.sqlite3'}"
    script = (
        "import sys; from app.migrations import upgrade; from app.models.base import open_database;"
        "upgrade(open_database(sys.argv[1]))"
    )
    starts = [subprocess.Popen([sys.executable, "-c", script, url]) for _ in range(3)]
    assert [start.wait(60) for start in starts] == [0, 0, 0]
    assert "job" in inspect(open_database(url)).get_table_names()
