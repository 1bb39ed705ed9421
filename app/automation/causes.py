"""Tell from what Ansible says why a host failed, and say what its owner can do about it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from app.domain.states import Cause

ENOUGH = 400  # characters of somebody else's words in a sentence of ours
LOOKED_AT = 10_000  # characters at either end of one text in which words are looked for

# A host chooses what is matched, so no pattern has an open end that could be begun anywhere: within
# a line, this many characters may stand between two words.
BETWEEN = r"[^\n]{0,200}"


class Sign(NamedTuple):
    """Words that tell a cause; {said} in the sentence stands for the words' own line."""

    words: re.Pattern[str]
    cause: Cause
    reason: str


def sign(words: str, cause: Cause, reason: str) -> Sign:
    """Words that give a cause away, in any case, and the sentence for a person."""
    return Sign(re.compile(words, re.IGNORECASE), cause, reason)


BROKEN = (
    "The connection broke in the middle of the work."
    " Check the host and the network, then retry: what was finished is not done again."
)

# The first that fits wins, so the special ones stand before the general ones. Those in LOGIN are
# what ssh says; only an unreachable result is asked for them, so that no program's output on the
# host can be taken for ssh's. HOST is what the host itself says.
LOGIN = (
    sign(
        rf"Load key {BETWEEN}passphrase",
        Cause.AUTH,
        "The passphrase does not open this private key. Correct it, then retry.",
    ),
    sign(
        r"Load key ",
        Cause.AUTH,
        "This is not a private key ssh can read. Send the whole key file, in OpenSSH or PEM form,"
        " then retry.",
    ),
    sign(
        r"username contains invalid characters",
        Cause.AUTH,
        "ssh does not accept this name of an account. Correct the account, then retry.",
    ),
    sign(
        r"password (change required|has expired)|account (has )?expired|must change your password",
        Cause.AUTH,
        "The account's password has expired. Set a new one on the host, then retry with it.",
    ),
    sign(
        r"Permission denied \([^)\n]{0,200}\)|Too many authentication failures"
        r"|Authentication failed|Permission denied, please try again",
        Cause.AUTH,
        "The host did not accept the login ({said}). Check account, password or key,"
        " then retry with the login corrected.",
    ),
    sign(
        r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED",
        Cause.AUTH,
        "The host shows another key than the one known for it. Make sure it is the right machine.",
    ),
    sign(
        r"Connection refused",
        Cause.REFUSED,
        "The host answers, but nothing listens on this port ({said})."
        " Start sshd there or correct the port, then retry.",
    ),
    sign(
        r"Unable to negotiate with",
        Cause.REFUSED,
        "The host's sshd and our ssh have no common algorithm ({said})."
        " Update the sshd or allow a current algorithm there, then retry.",
    ),
    sign(
        r"Could not resolve hostname|Name or service not known|failure in name resolution",
        Cause.UNREACHABLE,
        "The name of the host cannot be resolved ({said})."
        " Correct the address or the DNS, then retry.",
    ),
    sign(
        r"No route to host|Network is unreachable",
        Cause.UNREACHABLE,
        "There is no way to the host ({said})."
        " Check that it is up, its address, and the network between, then retry.",
    ),
    sign(
        r"timed out during banner exchange",
        Cause.UNREACHABLE,
        "Something accepted the connection but did not answer as sshd within 10 s."
        " Check the port and the load of the host, then retry.",
    ),
    sign(
        r"kex_exchange_identification|banner exchange|Bad packet length"
        rf"|Exceeded MaxStartups|Connection (closed|reset) by {BETWEEN} \[preauth\]",
        Cause.REFUSED,
        "The host closed the connection before the login ({said})."
        " Check that the port is sshd's, and its MaxStartups and access rules, then retry.",
    ),
    sign(
        rf"connect to host {BETWEEN}timed out|Operation timed out|Connection timed out",
        Cause.UNREACHABLE,
        "The host did not answer within 10 s."
        " Check that it is up, its address, and the firewalls between, then retry.",
    ),
    sign(
        r"connect to host ",
        Cause.UNREACHABLE,
        "The host cannot be reached ({said}). Check its address and the network, then retry.",
    ),
    sign(
        rf"Timeout, server {BETWEEN} not responding|Connection (to {BETWEEN} )?(closed|reset)"
        rf"|Broken pipe|closed by remote host|client_loop|mux_client"
        rf"|Connection to {BETWEEN} timed out|reached over ssh: {{0,9}}$",
        Cause.CONNECTION_LOST,
        BROKEN,
    ),
    sign(
        r"waiting for privilege escalation prompt",
        Cause.PRIVILEGE,
        "sudo did not answer within 12 s. Log in there and try sudo by hand, then retry.",
    ),
)

HOST = (
    sign(
        rf"account is currently not available|This account {BETWEEN}(disabled|locked)",
        Cause.AUTH,
        "The login works, but the account may not run commands ({said})."
        " Give it a shell or use another account, then retry.",
    ),
    sign(
        r"sudo: (command )?not found|/sudo: No such file|\bsudo: not found",
        Cause.PRIVILEGE,
        "There is no sudo on the host. Install it, or log in as root, then retry.",
    ),
    sign(
        r"not in the sudoers file|is not allowed to (execute|run sudo)|may not run sudo",
        Cause.PRIVILEGE,
        "The account may not use sudo ({said})."
        " Allow it in sudoers, or log in as root, then retry.",
    ),
    sign(
        r"(Missing|Incorrect) sudo password|sudo: (a|no) password|Sorry, try again",
        Cause.PRIVILEGE,
        "sudo wants a password, and has none or a wrong one. Send the account's password with the"
        " login, or allow NOPASSWD in sudoers, then retry.",
    ),
    sign(
        r"(?m)^sudo: ",
        Cause.PRIVILEGE,
        "sudo does not work for this account ({said}). Mend that, or log in as root, then retry.",
    ),
    sign(
        rf"module interpreter {BETWEEN} was not found"
        r"|python[0-9.]{0,9}: ((command )?not found|No such file)",
        Cause.NO_PYTHON,
        "There is no Python 3 where it is expected ({said})."
        " Install python3 on the host, then retry.",
    ),
    sign(
        r"No space left on device|Disk quota exceeded|Errno 28\b",
        Cause.DISK_FULL,
        "The disk of the host is full ({said}). Make room there, then retry.",
    ),
    sign(
        r"Read-only file system",
        Cause.TASK_FAILED,
        "The file system of the host is read-only ({said}). Check its disk, then retry.",
    ),
    sign(
        r"Failed to create temporary directory",
        Cause.TASK_FAILED,
        "The account cannot write to its temporary folder on the host."
        " Check that its home exists, is writable and has room, then retry.",
    ),
    sign(
        r"No start of json char found",
        Cause.TASK_FAILED,
        "The work on the host ended without a result ({said}). See the log, then retry.",
    ),
)


TOO_LONG = (
    "The host was not done within {seconds} s, and what it did was broken off."
    " Look at its log for where it hangs, then retry."
)


def classify(result: Mapping[str, Any]) -> tuple[Cause, str]:
    """The cause of a failed or unreachable result, and a sentence that says what now."""
    if result.get("cause") or result.get("reason"):
        return _own_words(result)
    if isinstance(late := result.get("timedout"), Mapping):
        return Cause.TIMEOUT, TOO_LONG.format(seconds=late.get("period"))
    if _ssh_was_killed(result):
        return Cause.CONNECTION_LOST, BROKEN
    text = "\n".join(_texts(result))
    signs = (*LOGIN, *HOST) if result.get("unreachable") else HOST
    for candidate in signs:
        if match := candidate.words.search(text):
            said = _said(text, match, result)
            return candidate.cause, candidate.reason.replace("{said}", said)
    if result.get("unreachable"):
        return Cause.UNREACHABLE, f"The host cannot be reached: {_short(text)}"
    words = _short(text) or "The task failed without a word"
    return Cause.TASK_FAILED, f"{words}. See the log of this host, then retry."


def _own_words(result: Mapping[str, Any]) -> tuple[Cause, str]:
    """What our own module says of itself."""
    known = result.get("cause") in CAUSES
    cause = Cause(result["cause"]) if known else Cause.TASK_FAILED
    return cause, str(result.get("reason") or result.get("msg") or "The task failed.")


CAUSES = frozenset(Cause)


def _ssh_was_killed(result: Mapping[str, Any]) -> bool:
    """A negative code is that of our own ssh: a process on the host ends with 128 and more."""
    code = result.get("rc")
    return isinstance(code, int) and code < 0 and "module_stdout" in result


def _texts(result: Mapping[str, Any]) -> Iterator[str]:
    """Where Ansible puts the words of a failure; of a loop, those of its first bad item."""
    for item in result.get("results") or ():
        if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable")):
            yield from _texts(item)
            return
    yield _without_preamble(_ends(str(result.get("msg") or "")))
    for name in ("module_stderr", "module_stdout", "stderr"):
        if text := result.get(name):
            yield _ends(str(text))


def _ends(text: str) -> str:
    """The text, cut before anything is matched: what tells a cause stands first or last."""
    if len(text) <= 2 * LOOKED_AT:
        return text
    return f"{text[:LOOKED_AT]}\n{text[-LOOKED_AT:]}"


PREAMBLE = re.compile(r"\A(Task failed: |Module failed: |Action failed: )+")
KEY_FILE = re.compile(r'(Load key )"[^"\n]{0,4096}"')


def _without_preamble(message: str) -> str:
    return KEY_FILE.sub(r"\1", PREAMBLE.sub("", message)).replace("\r\n", "\n")


def _said(text: str, match: re.Match[str], result: Mapping[str, Any]) -> str:
    """The line with the tell-tale words; of a silent death, how the process ended."""
    if match[0].startswith("No start of json"):
        words = str(result.get("module_stderr") or result.get("module_stdout") or "")
        words = words[-LOOKED_AT:].strip()
        ended = f"exit code {result.get('rc')}"
        return f"{ended}: {_short(words.splitlines()[-1])}" if words else ended
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    line = text[start : end if end >= 0 else None]
    return _short(line.rpartition("reached over ssh: ")[2].rpartition("via ssh: ")[2])


def _short(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= ENOUGH else f"{text[:ENOUGH]}…"
