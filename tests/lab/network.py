"""The lab's own network: a bridge per lab, a namespace and an address per host."""

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path

from tests.lab.errors import LabError

LABS = IPv4Network(os.environ.get("HOSTLER_LAB_NETWORK", "10.213.0.0/16"))
SLOTS = 16  # one /20 each: as many labs may run side by side

# name of the setting, the least it must be for a few hundred hosts on one machine
SETTINGS = {
    "fs/inotify/max_user_instances": 65536,
    "net/ipv4/neigh/default/gc_thresh1": 4096,
    "net/ipv4/neigh/default/gc_thresh2": 8192,
    "net/ipv4/neigh/default/gc_thresh3": 16384,
}


@dataclass(frozen=True)
class Network:
    """One of the sixteen networks a lab can have on this machine."""

    slot: int

    @cached_property
    def subnet(self) -> IPv4Network:
        return list(LABS.subnets(new_prefix=LABS.prefixlen + 4))[self.slot]

    @property
    def bridge(self) -> str:
        return f"hlab{self.slot}"

    @property
    def bridge_address(self) -> str:
        return str(self.subnet[1])

    def address(self, number: int) -> str:
        return str(self.subnet[10 + number])

    def address6(self, number: int) -> str | None:
        return f"fd00:213:{self.slot:x}::{10 + number:x}" if has_ipv6() else None

    def spare_address(self, number: int) -> str:
        return str(self.subnet[-2 - number])

    def link(self, number: int) -> str:
        """What the host's cable is called, and its namespace too."""
        return f"hlab{self.slot}-{number}"

    def create(self) -> None:
        """Lay the bridge."""
        lines = [
            f"link add {self.bridge} type bridge",
            f"addr add {self.bridge_address}/{self.subnet.prefixlen} dev {self.bridge}",
            f"link set {self.bridge} up",
        ]
        if has_ipv6():
            lines.append(f"addr add fd00:213:{self.slot:x}::1/64 dev {self.bridge} nodad")
        _ip_batch(lines)

    def plug(self, number: int) -> None:
        """Give host `number` a namespace with one cable to the bridge."""
        link = self.link(number)
        _ip_batch(
            [
                f"netns add {link}",
                f"link add {link} type veth peer name host0 netns {link}",
                f"link set {link} master {self.bridge} up",
            ]
        )
        inside = [
            f"addr add {self.address(number)}/{self.subnet.prefixlen} dev host0",
            "link set lo up",
            "link set host0 up",
            f"route add default via {self.bridge_address}",
        ]
        if address6 := self.address6(number):
            inside.append(f"addr add {address6}/64 dev host0 nodad")
        _ip_batch(inside, namespace=link)

    def exists(self) -> bool:
        return Path("/sys/class/net", self.bridge).exists()

    def is_taken(self) -> bool:
        """Whether somebody else on this machine already uses the bridge's name or addresses."""
        routes = json.loads(_ip("-j", "route", "show", "root", str(self.subnet)) or "[]")
        return self.exists() or bool(routes)

    def set_link(self, number: int, *, up: bool) -> None:
        _ip("link", "set", self.link(number), "up" if up else "down")

    def is_link_up(self, number: int) -> bool:
        flags = Path("/sys/class/net", self.link(number), "flags").read_text()
        return bool(int(flags, 16) & 1)

    def require_routes(self, addresses: list[str]) -> None:
        """Refuse to go on unless every address is reached over this lab's bridge and no other way.

        A lab that is gone leaves addresses that may belong to real machines elsewhere.
        """
        for address in addresses:
            route = json.loads(_ip("-j", "route", "get", address))[0]
            if route.get("dev") != self.bridge:
                raise LabError(f"{address} is not on the lab's bridge but on {route.get('dev')}.")

    def remove(self) -> None:
        """Take away the bridge, the cables and the namespaces."""
        # a namespace takes its cable along, but only some time later
        lines = [f"link del {cable.name}" for cable in _interfaces(f"{self.bridge}-*")]
        namespaces = [entry["name"] for entry in json.loads(_ip("-j", "netns", "list") or "[]")]
        own = [name for name in namespaces if name.startswith(f"hlab{self.slot}-")]
        lines += [f"netns del {name}" for name in own]
        if self.exists():
            lines.append(f"link del {self.bridge}")
        _ip_batch(lines)


def _interfaces(pattern: str) -> list[Path]:
    return list(Path("/sys/class/net").glob(pattern))


def has_ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()


def raise_kernel_limits() -> None:
    """Let the kernel hold a few hundred hosts; 128 inotify instances stop it at about twenty."""
    for name, least in SETTINGS.items():
        setting = Path("/proc/sys", name)
        if setting.exists() and int(setting.read_text()) < least:
            setting.write_text(str(least))


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _ip_batch(lines: list[str], namespace: str | None = None) -> None:
    inside = ["-n", namespace] if namespace else []
    done = subprocess.run(
        ["ip", *inside, "-batch", "-"], input="\n".join(lines), capture_output=True, text=True
    )
    if done.returncode:
        raise LabError(f"The lab's network: {done.stderr.strip()}")
