"""Ends in the ways a module should not."""

import os
import signal
import sys
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def our_sshd():
    """The process that serves our connection."""
    pid = os.getpid()
    while Path(f"/proc/{pid}/comm").read_text().strip() != "sshd":
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def fill(path):
    with Path(path).open("wb") as file:
        file.write(b"x" * 10_000)


def main():
    module = AnsibleModule(argument_spec={"how": {"type": "str"}, "path": {"type": "path"}})
    match module.params["how"]:
        case "cut":
            os.kill(our_sshd(), signal.SIGKILL)
        case "freeze":
            os.kill(our_sshd(), signal.SIGSTOP)
            time.sleep(60)
        case "fill":
            fill(module.params["path"])
        case "crash":
            raise RuntimeError("the module crashed")
        case "silence":
            sys.exit(3)
        case "killed":
            os.kill(os.getpid(), 9)


if __name__ == "__main__":
    main()
