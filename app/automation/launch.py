"""Be ansible-playbook, tied to the life of the process that started it (run as a program).

The kernel sends SIGTERM to us when our parent dies, and to each of Ansible's forked workers when we
die: they sit in sessions of their own, where no signal to a process group would find them. Ansible
itself answers SIGTERM by ending its whole tree.
"""

import ctypes
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.automation.channel import Sender

PR_SET_PDEATHSIG = 1
LAST_WORDS = 2.0  # seconds

prctl = ctypes.CDLL(None, use_errno=True).prctl


def follow(parent: int) -> None:
    """Ask for SIGTERM when the parent dies; it may already have."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def open_channel() -> Sender:
    """Send events where we were to print; whatever is printed after all goes to standard error."""
    descriptor = os.dup(1)  # not inherited by any command
    os.dup2(2, 1)
    return Sender(descriptor)


def prepare_for_forks() -> None:
    """Do here, once, what each of Ansible's workers would otherwise do for itself first.

    They come with what a connection needs, and without a garbage collector: it would touch, and so
    copy, every page they share with us. None of us lives long enough to need it.
    """
    from ansible.module_utils.common.json import (
        Direction,
        get_module_decoder,
        get_module_encoder,
    )
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins import loader
    from ansible.template import Templar, trust_as_template

    from app.automation.bounds import bound

    templar = Templar(loader=DataLoader())  # type: ignore[no-untyped-call]
    templar.template(trust_as_template("{{ none | default(1, true) | int }}"))
    get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE)
    get_module_decoder("legacy", Direction.MODULE_TO_CONTROLLER)
    ssh = loader.connection_loader.get("ssh", class_only=True)  # type: ignore[no-untyped-call]
    hear_out(ssh)
    bound(ssh, sys.modules[ssh.__module__])
    loader.shell_loader.get("sh")  # type: ignore[no-untyped-call]
    loader.become_loader.get("sudo", class_only=True)  # type: ignore[no-untyped-call]
    loader.action_loader.get("hostler_package", class_only=True)  # type: ignore[no-untyped-call]


def hear_out(connection: Any) -> None:
    """Let an ssh that no longer takes input end, and say why, before the connection is given up.

    Ansible grants it a millisecond, in which a refused login on a busy machine has not ended yet:
    a wrong password then looks like a broken connection.
    """
    from ansible.errors import AnsibleConnectionFailure

    send = connection._send_initial_data

    def send_or_hear(self: Any, handle: Any, data: bytes, process: subprocess.Popen[bytes]) -> None:
        try:
            send(self, handle, data, process)
        except AnsibleConnectionFailure as failure:
            try:
                process.wait(LAST_WORDS)
            except subprocess.TimeoutExpired:
                raise failure from None

    connection._send_initial_data = send_or_hear


def main() -> None:
    """Become ansible-playbook, and end with whoever started it, forks included."""
    os.setsid()  # or a signal to the group of a work-horse would be one to our connections too
    follow(int(os.environ.pop("HOSTLER_PARENT")))
    sender = open_channel()
    forking: list[int] = []

    def before() -> None:
        if not forking:
            forking.append(os.getpid())
            prepare_for_forks()
        gc.freeze()

    def after_in_child() -> None:
        sender.close()
        follow(forking[0])

    os.register_at_fork(before=before, after_in_child=after_in_child)
    gc.disable()
    from ansible.cli.playbook import main as ansible_playbook

    from app.automation.crew import form_crews
    from app.automation.telling import tell_on

    tell_on(sender)
    form_crews()

    sys.argv[0] = str(Path(sys.executable).with_name("ansible-playbook"))
    ansible_playbook()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
