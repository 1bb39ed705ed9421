"""What a connection that ends while it is being written to says last is heard."""

import subprocess
from types import SimpleNamespace

from ansible.plugins.connection.ssh import Connection

from app.automation.launch import hear_out

ENDING = "exec <&-; echo closed; sleep 0.3; echo Permission denied >&2; exit 255"


def test_the_reason_of_a_refused_login_is_waited_for() -> None:
    patient = SimpleNamespace(_send_initial_data=Connection._send_initial_data)
    hear_out(patient)
    with subprocess.Popen(
        ["sh", "-c", ENDING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as ssh:
        assert ssh.stdout
        assert ssh.stderr
        assert ssh.stdout.readline() == b"closed\n"  # a write to it fails from here on
        patient._send_initial_data(SimpleNamespace(host="h"), ssh.stdin, b"x", ssh)
        assert ssh.returncode == 255
        assert b"Permission denied" in ssh.stderr.read()
