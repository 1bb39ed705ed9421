"""`./run lab`: bring test hosts up and down by hand, one JSON object per host and line."""

import argparse
import json
import sys

from tests.lab.choice import AnyLab, attach, is_held, names, up
from tests.lab.errors import LabError
from tests.lab.hosts import can_run_lab
from tests.lab.image import image


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    boot = commands.add_parser("up", help="boot N hosts, or as many more as are missing")
    boot.add_argument("count", type=int, metavar="N")
    down = commands.add_parser("down", help="take the hosts away and leave nothing behind")
    down.add_argument("--all", action="store_true", help="every lab that no running process holds")
    show = commands.add_parser("list", help="print the hosts that are up")
    commands.add_parser("image", help="only build what hosts boot from, if that is still to do")
    for command in (boot, down, show):
        command.add_argument("--name", default="dev", help="which lab (default: dev)")
    chosen = parser.parse_args()
    try:
        return COMMANDS[chosen.command](chosen)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1


def _up(chosen: argparse.Namespace) -> int:
    if chosen.name in names():
        lab = attach(chosen.name)
        lab.grow(chosen.count)
    else:
        lab = up(chosen.count, chosen.name, detached=True)
    return _print(lab)


def _down(chosen: argparse.Namespace) -> int:
    ours = [name for name in names() if not is_held(name) or name == chosen.name]
    for name in ours if chosen.all else [chosen.name]:
        if name in ours:
            attach(name).down()
    return 0


def _list(chosen: argparse.Namespace) -> int:
    return _print(attach(chosen.name))


def _image(chosen: argparse.Namespace) -> int:
    if can_run_lab() is None:
        image()
    return 0


def _print(lab: AnyLab) -> int:
    for host in lab.hosts:
        print(json.dumps(host.describe()))
    return 0


COMMANDS = {"up": _up, "down": _down, "list": _list, "image": _image}

if __name__ == "__main__":
    sys.exit(main())
