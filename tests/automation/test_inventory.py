"""What callers send arrives as data; what we write reaches ssh as we meant it."""

import math
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.automation.inventory import (
    CHEAP_EXCHANGES,
    Jump,
    Login,
    Machine,
    as_data,
    write_inventory,
    write_limit,
)

HOSTILE = [
    "{{ lookup('pipe', 'id') }}",
    "{% for x in range(9) %}{{ x }}{% endfor %}",
    "{# gone #}",
    "!unsafe 'x'",
    "!vault |",
    "'",
    '"',
    "\\",
    "a\nb\r\nc",
    "\t",
    "",
    " ",
    "-oProxyCommand=touch /tmp/owned",
    "$(id)`id`;id|id&id",
    "host_1,host_2:!all",
    "# no comment",
    "key: value",
    "- item",
    "? x",
    "*alias &anchor",
    "yes",
    "null",
    "1e3",
    "0123",
    "12345",
    "1:30",
    "0o17",
    "2001-01-01",
    "密码 пароль 🔑",
    "\u2028\u2029\x85\ufeff",
    "\x00\x07\x7f",
    "x" * 100_000,
]

plain_text = st.text(st.characters(exclude_categories=["Cs"]))
json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | plain_text
    | st.sampled_from(HOSTILE[:-1]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_text, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Short enough for sockets."""
    return tmp_path


@pytest.fixture(autouse=True)
def short_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.automation.inventory.CONTROL_PATH_LIMIT", 1000)


def as_ansible_sees(path: Path, host_id: int = 1) -> dict[str, Any]:
    """The host's variables, every one of them templated as a task would."""
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(path)])
    host = inventory.get_host(f"host_{host_id}")
    variables = inventory.groups["all"].get_vars() | host.vars
    templar = Templar(loader=loader, variables=variables)
    return {name: templar.template(value) for name, value in variables.items()}


def machine(host_id: int = 1, **changes: Any) -> Machine:
    return Machine(
        **{"host_id": host_id, "address": "192.0.2.1", "login": Login(account="root")} | changes
    )


# --- Data stays data ------------------------------------------------------------------------


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_values_arrive_unchanged(folder: Path, value: str) -> None:
    values = {"plain": value, "deep": [{value: {"key": [value]}}]}

    path = write_inventory(folder, [machine(values=values)], {"shared": value})

    seen = as_ansible_sees(path)
    assert seen["plain"] == seen["shared"] == value
    assert seen["deep"] == [{value: {"key": [value]}}]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=json_like)
def test_anything_json_like_survives(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = write_inventory(tmp_path_factory.mktemp("i"), [machine(values={"value": value})], {})

    seen = as_ansible_sees(path)["value"]

    assert seen == value
    assert type(seen) is type(value) or isinstance(seen, type(value))


def test_half_characters_do_not_spoil_the_file(folder: Path) -> None:
    path = write_inventory(folder, [machine(values={"odd": "a\ud800b"})], {})

    assert as_ansible_sees(path)["odd"] == "a\ufffdb"


def test_numbers_beyond_those_of_json_survive(folder: Path) -> None:
    path = write_inventory(folder, [machine(values={"odd": [math.inf, 1e16, math.nan]})], {})

    *known, unknown = as_ansible_sees(path)["odd"]
    assert known == [math.inf, 1e16]
    assert math.isnan(unknown)


@pytest.mark.parametrize("key", ["__ansible_unsafe", "__ansible_vault", "__ansible_type"])
def test_a_key_that_means_something_to_ansible_is_refused(folder: Path, key: str) -> None:
    with pytest.raises(ValueError, match="cannot be a key"):
        write_inventory(folder, [machine(values={"deep": [{key: "x"}]})], {})


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(TypeError, match="object cannot be given to a playbook"):
        as_data(object())


@pytest.mark.parametrize("name", ["ansible_host", "a b", "x.y", "{{ x }}", "Évil", ""])
def test_variables_have_names_of_our_own(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        write_inventory(folder, [machine(values={name: 1})], {})


def test_these_tests_would_notice_a_template(folder: Path) -> None:
    trusting = folder / "hosts.yml"
    trusting.write_text('all: {vars: {x: "{{ 1 + 1 }}"}, hosts: {host_1: {}}}')

    assert as_ansible_sees(trusting)["x"] == 2


# --- Machines -------------------------------------------------------------------------------


def test_every_machine_is_named_and_only_those_with_a_login_can_be_reached(folder: Path) -> None:
    named = Machine(host_id=2, address="192.0.2.2", values={"zone": 3})

    path = write_inventory(folder, [machine(1), named], {})

    assert as_ansible_sees(path, 2)["zone"] == 3
    assert not [name for name in as_ansible_sees(path, 2) if name.startswith("ansible_")]
    assert as_ansible_sees(path, 1)["ansible_host"] == "192.0.2.1"


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0", "node-1.example.com"]
)
def test_addresses_of_all_kinds(folder: Path, address: str) -> None:
    path = write_inventory(folder, [machine(address=address, port="2222")], {})

    seen = as_ansible_sees(path)
    assert (seen["ansible_host"], seen["ansible_port"]) == (address, 2222)


@pytest.mark.parametrize(
    "address", ["-oProxyCommand=id", "", "a b", "a,b", "{{ x }}", "a\nb", "::1;id"]
)
def test_what_is_no_address_is_refused(folder: Path, address: str) -> None:
    with pytest.raises(ValueError, match="neither an address nor a host name"):
        write_inventory(folder, [machine(address=address)], {})


@pytest.mark.parametrize("account", ["", 'a" ProxyCommand=id "', "a\nb", "a\\"])
def test_what_is_no_account_is_refused(folder: Path, account: str) -> None:
    with pytest.raises(ValueError, match="cannot be an account"):
        write_inventory(folder, [machine(login=Login(account=account))], {})


def test_a_key_and_a_password_are_files_only_we_can_read(folder: Path) -> None:
    by_key = Login(account="root", private_key="-----BEGIN-----\r\nxyz\r\n-----END-----")
    by_password = Login(account="root", password="hush\n' $x")

    path = write_inventory(folder, [machine(1, login=by_key), machine(2, login=by_password)], {})

    key, password = folder / "key" / "host_1", folder / "password" / "host_2"
    assert key.read_text() == "-----BEGIN-----\nxyz\n-----END-----\n"
    assert password.read_text() == "hush\n' $x"
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, key, password)} == {0o600}
    assert "hush" not in str(as_ansible_sees(path, 2)["ansible_ssh_args"])


def test_sudo_is_used_by_those_who_are_not_root(folder: Path) -> None:
    machines = [
        machine(1),
        machine(2, login=Login(account="admin", password="hush")),
        machine(3, login=Login(account="admin", become=False)),
    ]

    path = write_inventory(folder, machines, {})

    assert "ansible_become" not in as_ansible_sees(path, 1)
    assert as_ansible_sees(path, 2)["ansible_become_password"] == "hush"
    assert "ansible_become" not in as_ansible_sees(path, 3)


def test_logins_do_not_show_their_secrets() -> None:
    login = Login(account="root", password="hush", private_key="key", passphrase="sesame")

    assert "hush" not in repr(login)
    assert "sesame" not in repr(login)
    assert repr(login).count("key") == 0


def test_a_folder_too_deep_for_sockets_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.automation.inventory.CONTROL_PATH_LIMIT", 90)
    deep = folder / ("d" * 90)
    deep.mkdir()

    with pytest.raises(ValueError, match="too long for a unix socket"):
        write_inventory(deep, [machine()], {})


def test_a_limit_names_hosts_and_is_never_empty(folder: Path) -> None:
    assert write_limit(folder, {3, 1}).read_text() == "host_1\nhost_3\n"
    with pytest.raises(ValueError, match="at least one host"):
        write_limit(folder, [])


# --- ssh understands it ---------------------------------------------------------------------


def ssh_options(path: Path, host_id: int = 1) -> dict[str, list[str]]:
    """What ssh itself makes of the arguments Ansible gives it."""
    seen = as_ansible_sees(path, host_id)
    arguments = shlex.split(seen["ansible_ssh_args"])
    if key := seen.get("ansible_ssh_private_key_file"):
        arguments += ["-o", f'IdentityFile="{key}"']
    arguments += ["-o", f'User="{seen["ansible_user"]}"']
    arguments += shlex.split(seen.get("ansible_ssh_common_args", ""))
    command = ["ssh", "-G", *arguments, seen["ansible_host"]]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    options: dict[str, list[str]] = {}
    for line in shown.splitlines():
        name, _, value = line.partition(" ")
        options.setdefault(name, []).append(value)
    return options


def test_a_key_login_offers_this_key_only(folder: Path) -> None:
    path = write_inventory(folder, [machine(login=Login(account="root", private_key="key"))], {})

    options = ssh_options(path)

    assert set(options["identityfile"]) == {str(folder / "key" / "host_1"), "none"}
    assert options["preferredauthentications"] == ["publickey"]
    assert (options["identitiesonly"], options["identityagent"]) == (["yes"], ["none"])
    assert options["passwordauthentication"] == ["no"]


def test_a_login_without_anything_offers_nothing(folder: Path) -> None:
    options = ssh_options(write_inventory(folder, [machine()], {}))

    assert options["identityfile"] == ["none"]
    assert options["passwordauthentication"] == ["no"]


def test_a_password_login_offers_no_key(folder: Path) -> None:
    path = write_inventory(folder, [machine(login=Login(account="a b", password="hush"))], {})

    options = ssh_options(path)

    assert options["pubkeyauthentication"] in (["no"], ["false"])
    assert options["numberofpasswordprompts"] == ["1"]
    assert options["user"] == ["a b"]


def test_a_host_has_one_connection_which_ends_with_its_client(folder: Path) -> None:
    options = ssh_options(write_inventory(folder, [machine()], {}))

    assert options["controlpath"] == [str(folder / "cp" / "host_1")]
    assert options["controlmaster"] in (["no"], ["false"])


def test_a_cut_network_is_noticed_within_twenty_seconds(folder: Path) -> None:
    options = ssh_options(write_inventory(folder, [machine()], {}))

    [interval], [count] = options["serveraliveinterval"], options["serveralivecountmax"]
    assert int(interval) * (int(count) + 1) <= 20


def test_the_cheap_key_exchange_comes_first(folder: Path) -> None:
    quick = write_inventory(folder, [machine()], {})
    (folder / "default").mkdir()
    default = write_inventory(folder / "default", [machine()], {}, quick_handshake=False)

    [exchanges] = ssh_options(quick)["kexalgorithms"]
    [usual] = ssh_options(default)["kexalgorithms"]

    assert exchanges.split(",")[0] in CHEAP_EXCHANGES
    assert set(exchanges.split(",")) == {x for x in usual.split(",") if "sntrup" not in x}


def test_jumps_are_quoted_at_every_level(folder: Path) -> None:
    """Each hop's ssh is replaced by a program that shows its arguments, and runs the next."""
    accounts = ["plain", "a b'c$(touch owned)%h;touch owned"]
    jumps = tuple(
        Jump(address=f"192.0.2.{i}", port=2200 + i, login=Login(account=account))
        for i, account in enumerate(accounts)
    )
    path = write_inventory(folder, [machine(address="2001:db8::9", jumps=jumps)], {})
    show = folder / "ssh_shown"
    show.write_text(
        '#!/bin/sh\nprintf \'%s\\n\' CALL "$@" >>"$SHOWN"\n'
        'for word in "$@"; do case $word in ProxyCommand=*) command=${word#*=};; esac; done\n'
        '[ -z "$command" ] || sh -c "$(printf %s "$command" | sed s/%%/%/g)"\n'
    )
    show.chmod(0o755)
    (folder / "bin").mkdir()
    (folder / "bin" / "ssh").symlink_to(show)

    common = shlex.split(as_ansible_sees(path)["ansible_ssh_common_args"])
    environment = {"PATH": f"{folder}/bin:/usr/bin:/bin", "SHOWN": str(folder / "shown")}
    subprocess.run([str(show), *common], check=True, env=environment, cwd=folder)

    target, last, first = split_calls(folder / "shown")
    assert 'User="a b\'c$(touch owned)%h;touch owned"' in last
    assert "[2001:db8::9]:22" in last
    assert last[-1] == "192.0.2.1"
    assert 'User="plain"' in first
    assert "[192.0.2.1]:2201" in first
    assert first[-1] == "192.0.2.0"
    assert target[0] == "-o"
    assert not (folder / "owned").exists()


def split_calls(file: Path) -> list[list[str]]:
    return [call.split("\n")[1:-1] for call in file.read_text().split("CALL")[1:]]
