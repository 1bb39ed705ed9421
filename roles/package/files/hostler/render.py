"""Fill values into a package's templates; a value stays a value, whatever it holds."""

import json
import re

from . import environment
from .failure import Failure

PLACE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}(?=(:)?))")


def fill(text, values, write, place):
    """The text with every ${name} replaced by its value, written so that it cannot break out."""

    def one(match):
        name, colon = match.group(1), match.group(2)
        if name is None:
            return "$"
        if name not in values:
            known = ", ".join(sorted(values))
            text = "%s asks for ${%s}, which nobody gives. There are: %s."
            raise Failure("task_failed", text % (place, name, known))
        value = values[name]
        if colon and isinstance(value, str) and value.count(":") > 1:
            value = f"[{value}]"  # an IPv6 address in front of a port
        return write(value, place)

    return PLACE.sub(one, text)


def render(template, values, written_as, place):
    """The whole text of a file of this format."""
    if written_as == "env":
        return _env(template, values, place)
    return fill(template, values, FORMATS[written_as], place)


def _env(template, values, place):
    """Each value is put together first and quoted as a whole then, so quotes never nest."""
    lines = []
    for name, value in environment.assignments(template):
        if name is None:
            lines.append(value)
        else:
            filled = fill(value, values, lambda given, _: _text(given), place)
            lines.append(environment.write(name, filled))
    return "".join(line + "\n" for line in lines)


def plain(value, place):
    """As one argument of a program, or as text that stays on its line."""
    text = _text(value)
    if re.search(r"[\0-\x08\x0a-\x1f\x7f]", text):
        raise Failure("task_failed", f"{place} takes no control characters: {text!r}.")
    return text


def as_ini(value, _place):
    """On one line, with what is no text written as in a Python string."""
    text = _text(value).replace("\\", "\\\\")
    return re.sub(r"[\0-\x1f\x7f]", lambda match: f"\\x{ord(match.group()):02x}", text)


def as_json(value, _place):
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


FORMATS = {"ini": as_ini, "json": as_json, "raw": plain}


def _text(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True)
    return str(value)


def systemd_argument(text):
    """One argument of ExecStart=, which knows quotes, backslashes, $ and %."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"'


def systemd_path(text):
    return text.replace("%", "%%")
