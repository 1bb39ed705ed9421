"""Where a run on a host begins and ends: the work, then its outcome as Ansible reads a module's."""

import json
import os
import sys

from .watch import Watch
from .work import perform


def main(arguments, check_mode, diff, mark):
    """Do the work and tell the outcome between two marks, by which the controller finds it."""
    watch = Watch(arguments.get("deadline"))
    watch.listen()
    result = perform(arguments, check_mode, watch)
    if not diff:
        del result["diff"]
    result["failed"] = bool(result["cause"])
    tell(result, mark)
    sys.exit(1 if result["failed"] else 0)


def tell(result, mark):
    """Tell whoever still listens; when nobody does, end quietly: the work is put back already."""
    text = json.dumps(result, ensure_ascii=False).encode("utf-8", "replace")
    mark = mark.encode()
    try:
        sys.stdout.buffer.write(b"\n" + mark + text + mark + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)  # a normal exit would try to write once more
