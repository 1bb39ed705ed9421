"""A Redis file that cannot be read is put aside, and the service goes on."""

from pathlib import Path

from tests.cli.conftest import start_in


def test_a_damaged_file_of_redis_stops_nothing(tmp_path: Path) -> None:
    first = start_in(tmp_path)
    first.wait_for("hostler is ready")
    assert first.stop() == 0
    folder = first.folder / "redis"
    files = [path for path in folder.rglob("*") if path.is_file() and "aof" in path.name]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes() + b"\0" * 4096)

    again = start_in(tmp_path)
    try:
        again.wait_for("the work it held is offered again")
        again.wait_for("hostler is ready")
        assert again.stop() == 0
    finally:
        again.process.kill()
        again.process.wait()
    assert (folder / "damaged-1").is_dir()
