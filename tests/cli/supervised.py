"""Run a supervisor over the programs given as JSON, and print what it says and the pids."""

import json
import os
import sys

from app.supervise import Program, Supervisor


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # whole: its programs write to the same pipe


programs = [Program(**{**p, "command": tuple(p["command"])}) for p in json.loads(sys.argv[1])]
supervisor = Supervisor(programs, say)
supervisor.run(
    is_ready=lambda: all(child.pid for child in supervisor.children),
    on_ready=lambda: say("pids " + " ".join(str(child.pid) for child in supervisor.children)),
)
say("stopped")
