"""The program a person runs on a host to install it by hand: the package role without Ansible."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from runpy import run_path
from typing import Any

PACKING = Path(__file__).resolve().parents[2] / "roles/package/files/packing.py"
CARRIER: str = run_path(str(PACKING))["carry"]()  # what the role runs on a host, on its way there
WHAT_I_AM = "# Hostler: install this host. Run me as root: python3 - <me\n"
PROGRAM = """
import base64, json, os, sys, time, urllib.request

from hostler.watch import Watch
from hostler.work import perform

SAID = json.loads(base64.b64decode("{said}").decode())


def main():
    watch = Watch(SAID["arguments"].get("deadline"))
    watch.listen()
    result = perform(SAID["arguments"], False, watch)
    for phase in result["phases"]:
        print("%-8s %-8s %s" % (phase["key"], phase["status"], phase["log"].strip()))
    print(result["reason"])
    report(result)
    return 1 if result["cause"] else 0


def report(result):
    failed = bool(result["cause"])
    logs = [
        dict(phase, step=phase["key"], log=phase["log"].strip(), status="RUNNING")
        for phase in result["phases"]
    ]
    logs.append({{
        "step": "install",
        "log": result["reason"],
        "status": "FAILED" if failed else "DONE",
        "cause": result["cause"],
        "after": result["after"],
    }})
    now = int(time.time())
    for log in logs:
        log.update(timestamp=now, level="ERROR" if failed else "INFO")
    body = json.dumps({{"token": SAID["token"], "logs": logs}}).encode()
    headers = {{"Content-Type": "application/json"}}
    request = urllib.request.Request(SAID["report_to"], body, headers)
    for attempt in range(5):
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                said = json.loads(answer.read().decode() or "{{}}")
            if said.get("result") is False:
                print("This report was refused: %s" % said.get("message"), file=sys.stderr)
            return
        except (OSError, ValueError) as error:
            trouble = error
            time.sleep(2 ** attempt / 4)
    print("This could not be reported to %s: %s" % (SAID["report_to"], trouble), file=sys.stderr)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
"""


def make_installer(arguments: Mapping[str, Any], report_to: str, token: str) -> str:
    """The Python program that does what these module arguments say and reports the outcome."""
    said = {"arguments": {**DEFAULTS, **arguments}, "report_to": report_to, "token": token}
    # base64: a caller's value can neither end a string nor become code
    text = base64.b64encode(json.dumps(said).encode()).decode()
    return f"{WHAT_I_AM}{CARRIER}{PROGRAM.format(said=text)}"


def make_refusal(why: str) -> str:
    """The Python program that installs nothing, says why, and fails."""
    return f"import sys\n\nsys.exit({why!a})\n"


DEFAULTS = {
    "action": "install",
    "name": "agent",
    "setup_path": "/opt/hostler",
    "service_manager": "auto",
    "deadline": 600,
}
