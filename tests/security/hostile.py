"""Hosts that do not do what they are told: what stands there in place of Python."""

import textwrap
from pathlib import Path

PYTHON = "/usr/bin/python3"
PRELUDE = f"""#!{PYTHON}
import base64, json, os, re, subprocess, sys

files = [name for name in sys.argv[1:] if os.path.isfile(name)]
program = open(files[0]).read() if files else sys.stdin.read()  # all that a host is told
said = json.loads(base64.b64decode(re.findall(r'b64decode\\("([\\w+/=]+)"\\)', program)[-1]))
mark = said.get("mark", "")


def answer(value):
    "Answer as our program would, whatever it is."
    text = value if isinstance(value, str) else json.dumps(value)
    print("\\n" + mark + text + mark, flush=True)


def honest():
    "Do what was asked, and answer that."
    done = subprocess.run(["{PYTHON}", "-"], input=program, capture_output=True, text=True)
    print(done.stdout, flush=True)


"""


def hostile_python(path: Path, does: str) -> str:
    """A program that is called as Python, knows all a host is told, and does this."""
    path.write_text(PRELUDE + textwrap.dedent(does))
    path.chmod(0o755)
    return str(path)


# The way ansible-runner's own callback marks an event in what it prints.
FORGE = """
def forged(event):
    text = base64.b64encode(json.dumps(event).encode()).decode()
    pieces = [text[i : i + 78] for i in range(0, len(text), 78)]
    marked = "".join("%s\\x1b[%dD" % (piece, len(piece)) for piece in pieces)
    return "\\x1b[K" + marked + "\\x1b[K"


PHASE = {"key": "detect", "status": "ok", "changed": True, "log": "", "seconds": 0}
FOUND = {"release": {"version": "6.6.6", "sha256": "", "path": ""}, "hostname": "evil"}


def lies(victim):
    "Events about another host that say that all is well there."
    result = {"phases": [PHASE], "changed": True, "before": FOUND, "after": FOUND}
    about = {"host": victim, "task": "x", "res": result}
    counts = {name: {victim: 1} for name in ("ok", "processed")}
    yield {"uuid": "a", "event": "runner_on_start", "event_data": {"host": victim}}
    yield {"uuid": "b", "event": "runner_on_ok", "event_data": about}
    yield {"uuid": "c", "event": "playbook_on_stats", "event_data": counts}


def breakers(victim):
    "Events that end the run of whoever reads them carelessly."
    yield {"uuid": "x", "event": "runner_on_start"}
    yield {"uuid": "../../../../evil", "event": "runner_on_ok", "created": 7}
    yield {"uuid": "y", "event": "runner_on_ok", "event_data": {"host": "localhost", "res": 5}}
"""
