"""What install, upgrade and their like do on a host, and how they take it back."""

import ast
import contextlib
import os
import platform
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.agents import EXITS, LINGERS
from tests.playbooks.conftest import Package
from tests.playbooks.host import CHECKOUT, Host, is_running, statuses


def test_install_deploys_starts_and_verifies(host: Host, package: Package) -> None:
    result = host.perform("install", package_file=package("1.0"))

    assert result["cause"] is None
    assert statuses(result) == dict.fromkeys(
        ("check", "fetch", "unpack", "render", "switch", "start", "verify"), "ok"
    )
    assert result["before"]["release"] is None
    assert result["after"]["release"]["version"] == host.release == "1.0"
    assert result["after"]["pid"] == host.pid


def test_installing_twice_changes_nothing(host: Host, package: Package) -> None:
    archive = package("1.0")
    first = host.perform("install", package_file=archive)
    files = host.files()

    second = host.perform("install", package_file=archive)

    assert not second["changed"]
    assert not any(phase["changed"] for phase in second["phases"])
    assert second["after"]["pid"] == first["after"]["pid"]
    assert host.files() == files


def test_a_callers_values_arrive_in_the_configuration(host: Host, package: Package) -> None:
    config = {
        "bt_speed_limit": 10,
        "peer_exchange_switch_for_agent": 1,
        "enable_compression": True,
        "data_path": "/var/lib/tiny",
    }
    host.perform("install", package_file=package("1.0"), config=config)

    variables = environment_of_agent(host)
    assert variables["BT_SPEED_LIMIT"] == "10"
    assert variables["PEER_EXCHANGE"] == "1"
    assert variables["COMPRESSION"] == "true"
    assert variables["DATA_PATH"] == str(host.root / "var/lib/tiny")
    assert (host.root / "var/lib/tiny").is_dir()


def test_an_address_the_host_does_not_have_itself_means_all(host: Host, package: Package) -> None:
    result = host.perform("install", package_file=package("1.0"), config={"address": "192.0.2.7"})

    assert result["cause"] is None, result
    render = next(phase for phase in result["phases"] if phase["key"] == "render")
    assert "192.0.2.7 is not an address of this host" in render["log"]


@pytest.mark.parametrize(
    "hostile",
    [
        "{{ lookup('pipe', 'id') }}",
        "$(id) `id` ${HOME} $HOME",
        "a\"b'c\\d\\",
        "two\nINJECTED=1\nlines",
        "%n %% ; rm -rf /",
        "-oProxyCommand=id",
        "漢字 ü \t tab",
    ],
)
def test_a_hostile_value_stays_a_value(host: Host, package: Package, hostile: str) -> None:
    result = host.perform("install", package_file=package("1.0"), config={"note": hostile})

    assert result["cause"] is None, result["reason"]
    variables = environment_of_agent(host)
    assert variables["NOTE"] == hostile
    assert "INJECTED" not in variables


def test_a_new_value_restarts_the_agent(host: Host, package: Package) -> None:
    archive = package("1.0")
    first = host.perform("install", package_file=archive)

    second = host.perform("install", package_file=archive, config={"bt_speed_limit": 5})

    assert second["after"]["pid"] != first["after"]["pid"]
    assert environment_of_agent(host)["BT_SPEED_LIMIT"] == "5"


def test_an_upgrade_keeps_what_was_configured(host: Host, package: Package) -> None:
    host.perform("install", package_file=package("1.0"), config={"bt_speed_limit": 5})

    result = host.perform("upgrade", package_file=package("1.1"))

    assert result["after"]["release"]["version"] == "1.1"
    assert environment_of_agent(host)["BT_SPEED_LIMIT"] == "5"


def test_an_upgrade_that_dies_at_start_puts_the_old_release_back(
    host: Host, package: Package
) -> None:
    host.perform("install", package_file=package("1.0"), config={"bt_speed_limit": 5})
    files = host.files()

    result = host.perform("upgrade", package_file=package("2.0", EXITS), config={"note": "new"})

    assert result["cause"] == "agent_exited"
    assert "status 3" in result["reason"]
    assert "cannot open the database" in result["reason"]
    assert "previous release 1.0 runs again" in result["reason"]
    assert result["restored"]
    assert statuses(result)["switch"] == "restored"
    assert statuses(result)["verify"] == "failed"
    assert host.release == "1.0"
    assert host.pid is not None
    assert environment_of_agent(host)["NOTE"] == ""
    assert host.files().keys() == files.keys()


def test_a_first_install_that_fails_leaves_nothing_running(host: Host, package: Package) -> None:
    result = host.perform("install", package_file=package("2.0", EXITS))

    assert result["cause"] == "agent_exited"
    assert "Nothing of it is left running" in result["reason"]
    assert host.pid is None
    assert host.release is None
    assert not (host.base / "releases").exists()


def test_an_agent_that_never_answers_is_not_ready(host: Host, package: Package) -> None:
    ready = {"kind": "http", "port": "${port}", "within": 1}
    result = host.perform("install", package_file=package("1.0", LINGERS, ready=ready))

    assert result["cause"] == "agent_not_ready"
    assert "within 1 seconds" in result["reason"]
    assert host.pid is None


def test_an_agent_of_another_version_than_promised_is_refused(host: Host, package: Package) -> None:
    result = host.perform("install", package_file=package("1.0", reported_version="9.9"))

    assert result["cause"] == "task_failed"
    assert "version is 1.0, but the package promised 9.9" in result["reason"]
    assert host.pid is None


def test_a_package_for_another_cpu_is_refused(host: Host, package: Package) -> None:
    result = host.perform("install", package_file=package("1.0", cpu=another_cpu()))

    assert result["cause"] == "no_package"
    assert another_cpu() in result["reason"]


def test_old_releases_but_the_previous_one_are_dropped(host: Host, package: Package) -> None:
    for version in ("1.0", "1.1", "1.2"):
        host.perform("install", package_file=package(version))

    kept = sorted(path.name.rpartition("-")[0] for path in (host.base / "releases").iterdir())
    assert kept == ["1.1", "1.2"]


def test_upgrading_where_nothing_is_installed_is_refused(host: Host, package: Package) -> None:
    result = host.perform("upgrade", package_file=package("1.0"))

    assert result["cause"] == "task_failed"
    assert "Install it first" in result["reason"]


def test_reinstalling_mends_a_broken_release(host: Host, package: Package) -> None:
    archive = package("1.0")
    host.perform("install", package_file=archive)
    program = (host.base / "current/bin/tiny").resolve()
    program.write_text("broken")

    result = host.perform("install", package_file=archive, fresh=True)

    assert result["cause"] is None
    assert statuses(result)["fetch"] == "ok"
    assert program.read_text() != "broken"


def test_restart_gives_a_new_process(host: Host, package: Package) -> None:
    first = host.perform("install", package_file=package("1.0"))

    result = host.perform("restart", config={})

    assert result["cause"] is None
    assert result["after"]["pid"] not in (None, first["after"]["pid"])


def test_reload_signals_a_program_that_wants_it(host: Host, package: Package) -> None:
    archive = package("1.0", reload={"signal": "HUP"})
    first = host.perform("install", package_file=archive)

    result = host.perform("reload", config={"bt_speed_limit": 7})

    assert result["after"]["pid"] == first["after"]["pid"]
    log = host.base / "log/output.log"
    host.wait_until(lambda: "read my configuration again" in log.read_text())
    assert 'BT_SPEED_LIMIT="7"' in (host.base / "etc/tiny.env").read_text()


def test_activate_configures_without_a_restart(host: Host, package: Package) -> None:
    first = host.perform("install", package_file=package("1.0"))

    result = host.perform("activate", config={"bt_speed_limit": 7})

    assert result["changed"]
    assert result["after"]["pid"] == first["after"]["pid"]
    assert result["after"]["config_sha256"] != first["after"]["config_sha256"]


def test_uninstall_leaves_nothing(host: Host, package: Package) -> None:
    installed = host.perform("install", package_file=package("1.0"))

    result = host.perform("uninstall")

    assert result["after"] == {**result["after"], "release": None, "running": False, "pid": None}
    assert not host.base.exists()
    assert not is_running(installed["after"]["pid"])
    assert not host.perform("uninstall")["changed"]


def test_an_action_that_is_none_is_refused(host: Host) -> None:
    result = host.perform("rebuild")

    assert result["cause"] == "task_failed"
    assert "no action 'rebuild'; there are: install, upgrade" in result["reason"]


def test_detect_says_what_is_there(host: Host, package: Package) -> None:
    assert host.perform("detect")["after"]["release"] is None
    host.perform("install", package_file=package("1.0"))

    result = host.perform("detect")

    assert not result["changed"]
    assert result["after"]["release"]["version"] == "1.0"
    assert result["after"]["running"]


def test_check_mode_changes_nothing_and_says_what_it_would(host: Host, package: Package) -> None:
    host.perform("install", package_file=package("1.0"))
    files, pid = host.files(), host.pid

    result = host.perform("upgrade", package_file=package("1.1"), check_mode=True)

    assert result["changed"]
    assert "would be upgraded" in result["reason"]
    assert (host.files(), host.pid) == (files, pid)


def test_the_difference_of_a_file_is_shown(host: Host, package: Package) -> None:
    host.perform("install", package_file=package("1.0"))

    result = host.perform("reload", check_mode=True, config={"bt_speed_limit": 7})

    shown = next(item for item in result["diff"] if item["after_header"].endswith("tiny.env"))
    assert 'BT_SPEED_LIMIT="0"' in shown["before"]
    assert 'BT_SPEED_LIMIT="7"' in shown["after"]


def test_an_ipv6_address_gets_its_brackets(host: Host, package: Package) -> None:
    result = host.perform("install", package_file=package("1.0"), config={"address": "::1"})

    assert result["cause"] is None, result["reason"]
    assert f"[::1]:{host.port}" in (host.base / "launch.json").read_text()


@pytest.mark.parametrize("path", ["relative", "/opt/../etc", "/", "/opt/\nx"])
def test_a_path_that_is_none_is_refused(host: Host, package: Package, path: str) -> None:
    result = host.perform("install", package_file=package("1.0"), setup_path=path)

    assert result["cause"] == "task_failed"
    assert os.listdir(host.root) == []


def test_a_full_disk_is_its_own_cause(host: Host, package: Package) -> None:
    archive = package("1.0")
    host.perform("install", package_file=archive)
    with full_disk(host.root / "opt/full"):
        result = host.perform("install", package_file=archive, setup_path="/opt/full")

        assert result["cause"] == "disk_full"
        assert f"KiB are free on {host.root}/opt/full" in result["reason"]
    assert host.release == "1.0"


def test_a_disk_without_inodes_is_said_to_lack_them(host: Host, package: Package) -> None:
    with mounted(host.root / "opt/full", "size=8m,nr_inodes=4"):
        result = host.perform("install", package_file=package("1.0"), setup_path="/opt/full")

        assert result["cause"] == "disk_full"
        assert f"No inodes are free on {host.root}/opt/full" in result["reason"]


def test_a_mount_that_runs_no_programs_is_named_and_nothing_changes(
    host: Host, package: Package
) -> None:
    with mounted(host.root / "opt/still", "size=8m,noexec"):
        result = host.perform("install", package_file=package("1.0"), setup_path="/opt/still")

        assert result["cause"] == "task_failed"
        assert f"{host.root}/opt/still is mounted noexec" in result["reason"]
        assert os.listdir(host.root / "opt/still") == []


@pytest.mark.parametrize("action", ["install", "upgrade", "reload", "activate", "uninstall"])
def test_on_a_read_only_mount_nothing_is_stopped_and_it_is_named(
    host: Host, package: Package, action: str
) -> None:
    place = host.root / "opt/hostler"
    with mounted(place, "size=8m"):
        pid = host.perform("install", package_file=package("1.0"))["after"]["pid"]
        # what is written to when it becomes read-only would be busy: a bind is remounted
        subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        try:
            result = host.perform(action, package_file=package("1.1"))

            assert result["cause"] == "task_failed"
            assert f"{place} is mounted read-only" in result["reason"]
            assert "Nothing was changed" in result["reason"]
            assert result["after"]["pid"] == pid == host.pid
        finally:
            subprocess.run(["umount", str(place)], check=True)
        assert host.perform("uninstall")["cause"] is None


@pytest.mark.parametrize("proxy", ["", "http://user:secret@127.0.0.1:9/"])
def test_a_host_that_knows_a_proxy_is_told_that_packages_do_not_use_it(
    host: Host, package: Package, proxy: str
) -> None:
    described = {
        "name": "agent",
        "version": "1.0",
        "os": "LINUX",
        "cpu": platform.machine(),
        "sha256": "0" * 64,
        "size": 1,
        "url": f"http://127.0.0.1:{host.port}/package",
        "manifest": {"exec": ["bin/tiny"]},
    }
    host.environment["http_proxy"] = proxy

    result = host.perform("install", packages=[described])

    assert result["cause"] == "package_unreachable"
    assert ("never through the proxy that http_proxy" in result["reason"]) is bool(proxy)
    assert "secret" not in result["reason"]


@pytest.mark.parametrize("name", ["current/.hostler.json", "values.json", "run.pid"])
@pytest.mark.parametrize("content", [b"[]", b"{}", b'"x"', b"7", b"null", b"\xff", b"[[1]]"])
def test_a_file_of_ours_that_holds_something_else_is_no_dead_end(
    host: Host, package: Package, name: str, content: bytes
) -> None:
    archive = package("1.0")
    first = host.perform("install", package_file=archive)
    (host.base / name).write_bytes(content)

    result = host.perform("install", package_file=archive, fresh=True)

    if name == "run.pid":  # nobody knows of the program any more; what was begun is not left
        os.killpg(first["after"]["pid"], signal.SIGKILL)
        result = host.perform("install", package_file=archive, fresh=True)
    assert result["cause"] is None, result["reason"]
    assert host.perform("uninstall")["cause"] is None
    assert not host.base.exists()


def test_a_file_of_ours_that_became_a_folder_is_no_dead_end(host: Host, package: Package) -> None:
    archive = package("1.0")
    host.perform("install", package_file=archive)
    for name in ("current/.hostler.json", "values.json"):
        (host.base / name).unlink()
        (host.base / name).mkdir()

    result = host.perform("uninstall")

    assert result["cause"] is None, result["reason"]
    assert not host.base.exists()


def test_values_arrive_whole_whatever_the_locale_of_the_login(host: Host, package: Package) -> None:
    host.environment.update(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")

    result = host.perform("install", package_file=package("1.0"), config={"note": "漢字 ü"})

    assert result["cause"] is None, result["reason"]
    assert environment_of_agent(host)["NOTE"] == "漢字 ü"


def test_a_login_without_rights_is_told_so(host: Host, package: Package) -> None:
    archive = package("1.0")
    host.root.chmod(0o555)
    nobody = 65534 if os.geteuid() == 0 else None

    result = host.result_of(host.begin("install", package_file=archive, user=nobody))

    assert result["cause"] == "privilege"
    assert "may not write" in result["reason"]
    assert "sudo" in result["reason"]


def test_a_killed_run_is_finished_by_the_next(host: Host, package: Package) -> None:
    host.perform("install", package_file=package("1.0"))
    ready = {"kind": "tcp", "port": 1, "within": 30}
    slow = package("2.0", ready=ready)
    process = host.begin("upgrade", package_file=slow)
    host.wait_until(lambda: host.release == "2.0" and (host.base / ".restart-pending").exists())
    process.kill()
    process.communicate()

    result = host.perform("install", package_file=package("1.1"))

    assert result["cause"] is None, result["reason"]
    assert host.release == "1.1"
    assert statuses(result)["start"] == "ok"


def test_a_run_killed_as_it_starts_the_program_leaves_none_running(
    host: Host, package: Package
) -> None:
    archive = package("1.0")
    process = host.begin("install", package_file=archive, dies_before="run.pid")
    process.communicate()

    assert process.returncode == -signal.SIGKILL
    assert host.release == "1.0"
    assert not is_listening(host.port)
    result = host.perform("install", package_file=archive)
    assert result["cause"] is None, result["reason"]
    assert statuses(result)["start"] == "ok"


def test_old_python_can_read_the_module() -> None:
    for path in (CHECKOUT / "roles/package").rglob("*.py"):
        if "action_plugins" not in path.parts:
            ast.parse(path.read_text(), feature_version=(3, 6))


# --- Looking, and breaking ----------------------------------------------------------------------


def environment_of_agent(host: Host) -> dict[str, str]:
    """What the running agent sees, asked of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{host.port}/", timeout=50) as answer:
        variables, _ = ast.literal_eval(answer.read().decode())
    return dict(variables)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def another_cpu() -> str:
    return "x86_64" if platform.machine() == "aarch64" else "aarch64"


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    """A small filesystem with these options."""
    path.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "small", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small filesystem needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """A small filesystem without any room."""
    with mounted(path, "size=64k"):
        with contextlib.suppress(OSError):
            (path / "filler").write_bytes(b"x" * 1024 * 1024)
        yield
