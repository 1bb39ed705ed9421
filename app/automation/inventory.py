"""Write a run's inventory: every machine of the slice, logins only for those it may touch."""

import functools
import hashlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from app.domain.accounts import account_problem

TEMPLATES = Path(__file__).resolve().parents[2] / "inventory_templates"
PROGRAMS = Path(__file__).parent

CONNECT_TIMEOUT = 10  # seconds
CONTROL_PATH_LIMIT = 90  # ssh adds 17 characters of its own to a socket path of at most 107


@dataclass(frozen=True, kw_only=True)
class Login:
    """How to get into a machine; without a key the password is used, with one it is for sudo."""

    account: str
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    become: bool | None = None  # None: whenever the account is not root

    @property
    def becomes(self) -> bool:
        return self.account != "root" if self.become is None else self.become


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A machine the connection passes through."""

    address: str
    port: int
    login: Login


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A host as Ansible shall see it; without a login it is only named."""

    host_id: int
    address: str
    port: int = 22
    login: Login | None = None
    jumps: tuple[Jump, ...] = ()
    python: str = "/usr/bin/python3"
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return host_name(self.host_id)


def host_name(host_id: int) -> str:
    """The inventory name: ours, so that no address and no pattern character can confuse it."""
    return f"host_{host_id}"


def write_inventory(
    folder: Path,
    machines: Sequence[Machine],
    shared: Mapping[str, Any],
    *,
    quick_handshake: bool = True,
) -> Path:
    """Write hosts.json, keys and passwords into the private folder; return the inventory's path."""
    for name in ("cp", "key", "password", "ssh"):
        (folder / name).mkdir(mode=0o700)
    (folder / "ssh" / "askpass").symlink_to(PROGRAMS / "askpass")
    check_control_path(folder, machines)
    common = SSH_OPTIONS | (quick_options() if quick_handshake else {})
    for way, options in AUTHENTICATION.items():
        _write_ssh_configuration(folder / "ssh" / way, common | options)
    common = _common_values(machines)
    hosts = {machine.name: _host_variables(folder, machine, common) for machine in machines}
    text = _template().render(shared=_checked_names(shared) | common, hosts=hosts)
    return write_private(folder / "hosts.json", text)


def _common_values(machines: Iterable[Machine]) -> dict[str, Any]:
    """What every machine of the run has alike: Ansible takes as long for it as for a whole host."""
    first, *others = [machine.values for machine in machines if machine.login] or [{}]
    return {
        name: value
        for name, value in _checked_names(first).items()
        if all(name in other and _is_same(value, other[name]) for other in others)
    }


def _is_same(one: Any, other: Any) -> bool:
    return one is other or as_data(one) == as_data(other)  # 1 equals True, and is not the same


def write_limit(folder: Path, host_ids: Iterable[int]) -> Path:
    """The file for --limit: exactly these hosts, never none."""
    names = [host_name(host_id) for host_id in sorted(host_ids)]
    if not names:
        raise ValueError("A run needs at least one host; an empty limit would mean every host.")
    return write_private(folder / "limit", "\n".join(names) + "\n")


def write_private(path: Path, text: str) -> Path:
    """Write a new file only we can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(text)
    return path


def check_control_path(folder: Path, machines: Iterable[Machine]) -> None:
    """Refuse a folder too deep for the sockets of its ssh connections."""
    longest = max(
        (len(os.fsencode(_control_path(folder, machine))) for machine in machines), default=0
    )
    if longest > CONTROL_PATH_LIMIT:
        raise ValueError(
            f"{folder} is {longest - CONTROL_PATH_LIMIT} characters too long for a unix socket"
            " in it; choose a shorter run_dir, such as /dev/shm."
        )


# --- One machine --------------------------------------------------------------------------------


def _host_variables(folder: Path, machine: Machine, common: Collection[str]) -> dict[str, Any]:
    own = _checked_names(machine.values)
    variables = {name: value for name, value in own.items() if name not in common}
    if machine.login:
        variables |= _connection(folder, machine, machine.login)
    return variables


def _connection(folder: Path, machine: Machine, login: Login) -> dict[str, Any]:
    variables: dict[str, Any] = {
        "ansible_host": checked_address(machine.address),
        "ansible_port": int(machine.port),
        "ansible_user": _checked_account(login.account),
        "ansible_python_interpreter": machine.python,
        "ansible_ssh_executable": _ssh(folder, machine.name, login),
        "ansible_ssh_args": shlex.join(
            [
                *_configuration(folder, login),
                "-o",
                f'ControlPath="{_control_path(folder, machine)}"',
            ]
        ),
    }
    if login.private_key:
        variables["ansible_ssh_private_key_file"] = str(_key(folder, machine.name, login))
    elif login.password is not None:
        # Only so that Ansible does not switch passwords off; _ssh says who hands it over.
        variables |= {"ansible_password": login.password} | WITHOUT_SSHPASS
    if machine.jumps:
        through = _proxy_command(folder, machine, len(machine.jumps) - 1)
        variables["ansible_ssh_common_args"] = shlex.join(["-o", f"ProxyCommand={through}"])
    if login.becomes:
        variables |= {"ansible_become": True, "ansible_become_method": "sudo"}
        if login.password:
            variables["ansible_become_password"] = login.password
    return variables


WITHOUT_SSHPASS = {"ansible_ssh_password_mechanism": "disable"}


def _control_path(folder: Path, machine: Machine) -> Path:
    """Where the connection is shared, and how a process of it tells which host it serves."""
    return folder / "cp" / machine.name


# --- ssh ----------------------------------------------------------------------------------------

# These stand in a file of the run, not in ansible_ssh_args, which Ansible takes apart a dozen times
# per host and task; and instead of the worker's own ssh configuration, which must not matter.
# Host keys are not checked: there is no place yet where a host's key would be known beforehand,
# and accepting the first one seen would refuse every reinstalled host. The price is that somebody
# on the path can pose as a host; known keys per host would change this.
# ServerAlive: a cut network is noticed within 20 s, long before TCP would.
SSH_OPTIONS = {
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
    "GlobalKnownHostsFile": "/dev/null",
    "UpdateHostKeys": "no",
    "LogLevel": "ERROR",
    "ConnectTimeout": str(CONNECT_TIMEOUT),
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "NumberOfPasswordPrompts": "1",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "IdentityFile": "none",
    "GSSAPIAuthentication": "no",
    "HostbasedAuthentication": "no",
}

# Hosts behind a jump share the way there. A host itself has one task in a run, so nothing to share:
# a master would be one more process, and outlive a client that is cut off.
SHARED = ("-o", "ControlMaster=auto", "-o", "ControlPersist=60s")

# One way in, so that a wrong login fails at once and nobody else's key is offered.
AUTHENTICATION = {
    "by_key": {
        "PreferredAuthentications": "publickey",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
    },
    "by_password": {
        "PreferredAuthentications": "password,keyboard-interactive",
        "PubkeyAuthentication": "no",
    },
}

# sntrup761, the default of OpenSSH 9, costs the client 57 ms of CPU per handshake. Without it comes
# mlkem768x25519 first where the client knows it, else P-256, for which OpenSSL has faster code than
# OpenSSH for curve25519. The same for the host's key, which is not checked. An older client loses
# sntrup's safety against quantum computers; quick_handshake=False gives its own order back.
CHEAP_EXCHANGES = ("mlkem768x25519-sha256", "ecdh-sha2-nistp256")
CHEAP_HOST_KEYS = "^ecdsa-sha2-nistp256"


@functools.cache
def quick_options() -> dict[str, str]:
    """What makes a handshake cheap for the ssh that is here; a worker asks before it forks."""
    asked = subprocess.run(
        ["ssh", "-F", "none", "-G", "x"], capture_output=True, text=True, check=False
    )
    usual = re.search(r"^kexalgorithms (.+)$", asked.stdout, re.MULTILINE)
    if not usual:
        return {"KexAlgorithms": "-sntrup*"}
    exchanges = [name for name in usual[1].split(",") if "sntrup" not in name]
    first = [name for name in CHEAP_EXCHANGES if name in exchanges]
    rest = [name for name in exchanges if name not in first]
    return {"KexAlgorithms": ",".join(first + rest), "HostKeyAlgorithms": CHEAP_HOST_KEYS}


def _write_ssh_configuration(path: Path, options: Mapping[str, str]) -> None:
    write_private(path, "".join(f"{name} {value}\n" for name, value in options.items()))


def _configuration(folder: Path, login: Login) -> tuple[str, str]:
    by_key = login.private_key or login.password is None
    return "-F", str(folder / "ssh" / ("by_key" if by_key else "by_password"))


def _key(folder: Path, name: str, login: Login) -> Path:
    """The key's file; ssh insists on its own line ends, however the key was pasted."""
    text = (login.private_key or "").replace("\r\n", "\n").strip()
    return write_private(folder / "key" / name, text + "\n")


def _ssh(folder: Path, name: str, login: Login) -> str:
    """The ssh to call: one that finds its password in the private folder, where it needs one.

    Ansible's own ssh_askpass starts more Python interpreters, 150 ms of CPU per host, and leaves
    the password in /dev/shm when it is killed; sshpass may not be installed.
    """
    secret = login.passphrase if login.private_key else login.password
    if secret is None:
        return "ssh"
    write_private(folder / "password" / name, secret)
    link = folder / "ssh" / name
    link.symlink_to(PROGRAMS / "ssh_with_password")
    return str(link)


def _proxy_command(folder: Path, machine: Machine, index: int) -> str:
    """The command that reaches the machine after jump `index`; ssh gives it to a shell.

    Each argument is quoted for that shell, and % doubled because ssh expands it first; an earlier
    jump is one argument of it, quoted the same way once more.
    """
    jump, name = machine.jumps[index], f"{machine.name}_jump_{index}"
    following = machine.jumps[index + 1] if index + 1 < len(machine.jumps) else machine
    arguments = [
        _ssh(folder, name, jump.login),
        *_configuration(folder, jump.login),
        *SHARED,
        "-o", f"Port={int(jump.port)}",
        "-o", f'User="{_checked_account(jump.login.account)}"',
        "-o", f'ControlPath="{_jump_control_path(folder, machine.jumps[: index + 1])}"',
        "-W", f"[{checked_address(following.address)}]:{int(following.port)}",
    ]  # fmt: skip
    if jump.login.private_key:
        arguments += ["-o", f'IdentityFile="{_key(folder, name, jump.login)}"']
    if index:
        arguments += ["-o", f"ProxyCommand={_proxy_command(folder, machine, index - 1)}"]
    arguments += ["--", checked_address(jump.address)]
    return shlex.join(arguments).replace("%", "%%")


def _jump_control_path(folder: Path, chain: Sequence[Jump]) -> Path:
    """One connection to a jump for all hosts behind it: sshd drops many logins at a time.

    Alike chains share it, told apart by everything that makes them what they are.
    """
    identity = hashlib.sha256(repr([_identity(jump) for jump in chain]).encode()).hexdigest()[:10]
    return folder / "cp" / f"jump_{identity}"


def _identity(jump: Jump) -> tuple[object, ...]:
    login = jump.login
    return jump.address, jump.port, login.account, login.password, login.private_key


# --- What may stand where -----------------------------------------------------------------------

ADDRESS = re.compile(r"[0-9A-Za-z:][0-9A-Za-z.:_-]*(%[0-9A-Za-z._-]+)?")
VARIABLE = re.compile(r"(?!ansible_)[a-z_][a-z0-9_]*")


def checked_address(address: str) -> str:
    """The address, if it is one: anything else could be an option of ssh."""
    if not ADDRESS.fullmatch(address):
        raise ValueError(f"{address!r} is neither an address nor a host name.")
    return address


def _checked_account(account: str) -> str:
    """The account, if ssh's configuration can carry it."""
    if problem := account_problem(account):
        raise ValueError(problem)
    return account


def _checked_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values under names of our own catalogue; a caller never names a variable."""
    for name in values:
        if not VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a playbook's variable.")
    return dict(values)


# --- JSON ---------------------------------------------------------------------------------------


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  (JSON, and every value passes through as_data)
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["as_data"] = as_data
    return environment.get_template("hosts.json.j2")


def as_data(value: Any) -> str:
    """One line of JSON that Ansible reads back as exactly this value, and never evaluates."""
    return json.dumps(_as_data(value))


def _as_data(value: Any) -> Any:
    match value:
        case None | bool() | float():
            return value
        case int():
            return int(value)
        case str():
            return {f"{MEANING}unsafe": _whole(value)}
        case Mapping():
            return {_key_of(str(key)): _as_data(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_as_data(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be given to a playbook.")


MEANING = "__ansible_"  # a mapping with such a key means something else to Ansible


def _key_of(key: str) -> str:
    if key.startswith(MEANING):
        raise ValueError(f"{key!r} cannot be a key of what a playbook is given.")
    return _whole(key)


def _whole(text: str) -> str:
    """The text without half characters, which UTF-8 has no way to say."""
    return HALF.sub("\ufffd", text)


HALF = re.compile("[\ud800-\udfff]")
