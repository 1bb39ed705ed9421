"""A person's way onto a lab host."""

import os
import subprocess

from tests.lab.hosts import LabHost

OPTIONS = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]


def ssh(
    host: LabHost, command: str, *, user: str = "root", password: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Log in and run a command, as a person does; by key unless a password is given."""
    options = [word for option in [*OPTIONS, "ConnectTimeout=4"] for word in ("-o", option)]
    if password is None:
        login = ["ssh", "-i", host.private_key_file, "-o", "BatchMode=yes"]
    else:
        login = ["sshpass", "-e", "ssh", "-o", "PubkeyAuthentication=no"]
    return subprocess.run(
        [*login, *options, "-p", str(host.port), f"{user}@{host.address}", command],
        capture_output=True,
        text=True,
        env=os.environ | {"SSHPASS": password or ""},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
