"""Environment files as systemd reads them, so that a program gets the same from either manager."""

import re

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ESCAPED_IN_QUOTES = '"\\`$'


def read(text):
    """The variables of an environment file, as systemd's EnvironmentFile= understands it."""
    return {name: value for name, value in assignments(text) if name is not None}


def assignments(text):
    """Each assignment as (name, value), in order; what is kept for people as (None, its line)."""
    found, at = [], 0
    while at < len(text):
        end = _end_of_line(text, at)
        line = text[at:end]
        stripped = line.lstrip()
        if not stripped or stripped[0] in "#;":
            found.append((None, line))
            at = end + 1
            continue
        name, equals, _ = line.partition("=")
        if not equals or not NAME.fullmatch(name.strip()):
            at = end + 1  # systemd ignores it too
            continue
        value, at = _value(text, at + len(name) + 1)
        found.append((name.strip(), value))
    return found


def _end_of_line(text, at):
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _value(text, at):
    """The value that begins here, and where the next line does.

    Quotes count only where a value begins or one has just ended, as in systemd.
    """
    value, spaces = "", ""
    begins = True
    while at < len(text) and text[at] != "\n":
        one = text[at]
        if one in " \t\r":
            spaces += "" if begins else one
            at += 1
        elif begins and one in "'\"":
            quoted, at = _quoted(text, at + 1, one)
            value, spaces = value + spaces + quoted, ""
        elif one == "\\":
            escaped = text[at + 1 : at + 2]
            value, spaces = value + spaces + ("" if escaped == "\n" else escaped), ""
            begins = False
            at += 2
        else:
            value, spaces = value + spaces + one, ""
            begins = False
            at += 1
    return value, at + 1


def _quoted(text, at, mark):
    """What stands up to the closing mark, and where it ends."""
    value = ""
    while at < len(text) and text[at] != mark:
        if mark == '"' and text[at] == "\\":
            escaped = text[at + 1 : at + 2]
            if escaped in ESCAPED_IN_QUOTES:
                value += escaped
            elif escaped != "\n":
                value += "\\" + escaped
            at += 2
        else:
            value += text[at]
            at += 1
    return value, at + 1


def write(name, value):
    """One assignment that is read as exactly this value, whatever it holds."""
    escaped = re.sub(r'(["\\$`])', r"\\\1", value.replace("\0", ""))
    return f'{name}="{escaped}"'
