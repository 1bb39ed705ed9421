"""Every fault has a cause of its own and a sentence that says what now."""

import pytest

from app.automation.causes import HOST, LOGIN, classify
from app.automation.events import HostResult
from app.domain.states import Cause
from tests.automation.recordings import RECORDINGS, events, verdict

FAULTS = {
    "wrong_password": (Cause.AUTH, "did not accept the login"),
    "wrong_key": (Cause.AUTH, "did not accept the login"),
    "wrong_passphrase": (Cause.AUTH, "did not accept the login"),
    "not_a_key": (Cause.AUTH, "not a private key"),
    "no_shell": (Cause.AUTH, "may not run commands"),
    "refused": (Cause.REFUSED, "nothing listens"),
    "not_ssh": (Cause.REFUSED, "before the login"),
    "hangs_up": (Cause.REFUSED, "before the login"),
    "no_answer": (Cause.UNREACHABLE, "did not answer within 10 s"),
    "silent": (Cause.UNREACHABLE, "did not answer as sshd"),
    "no_network": (Cause.UNREACHABLE, "no way to the host"),
    "no_name": (Cause.UNREACHABLE, "cannot be resolved"),
    "cut": (Cause.CONNECTION_LOST, "in the middle of the work"),
    "frozen": (Cause.CONNECTION_LOST, "in the middle of the work"),
    "no_python": (Cause.NO_PYTHON, "Install python3"),
    "sudo_missing": (Cause.PRIVILEGE, "no sudo on the host"),
    "sudo_wants_password": (Cause.PRIVILEGE, "sudo wants a password"),
    "sudo_wrong_password": (Cause.PRIVILEGE, "sudo wants a password"),
    "sudo_not_in_sudoers": (Cause.PRIVILEGE, "may not use sudo"),
    "sudo_not_in_sudoers_nor_password": (Cause.PRIVILEGE, "sudo wants a password"),
    "disk_full": (Cause.DISK_FULL, "Make room"),
    "remote_tmp_full": (Cause.DISK_FULL, "Make room"),
    "module_refuses": (Cause.AGENT_EXITED, "exited at once with code 3"),
    "module_crashes": (Cause.TASK_FAILED, "the module crashed"),
    "module_says_nothing": (Cause.TASK_FAILED, "exit code 3"),
    "module_killed": (Cause.TASK_FAILED, "exit code 137: Killed"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_recorded_fault_is_told_apart(name: str) -> None:
    expected, words = FAULTS[name]

    cause, reason = verdict(events(name)).failed[1]

    assert cause is expected
    assert words in reason


def test_a_host_that_was_given_up_is_not_one_that_failed() -> None:
    result = {"msg": "Task failed: Timed out after 600 second(s).", "timedout": {"period": 600}}

    cause, reason = classify({"failed": True, **result})

    assert cause is Cause.TIMEOUT
    assert "within 600 s" in reason


def test_every_recording_of_a_fault_is_tested() -> None:
    bad = {
        path.stem
        for path in RECORDINGS.glob("*.jsonl")
        for event in events(path.stem)
        if isinstance(event, HostResult) and event.is_bad
    }

    assert bad - {"mixed"} == FAULTS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_reasons_are_sentences_without_our_paths(name: str) -> None:
    _, reason = verdict(events(name)).failed[1]

    assert reason.endswith(".")
    assert "/run/hostler" not in reason
    assert "\n" not in reason
    assert "Task failed" not in reason


def test_every_sentence_says_what_to_do() -> None:
    for sign in (*LOGIN, *HOST):
        assert "retry" in sign.reason or "Make sure" in sign.reason


SAID = [
    (True, "reached over ssh: Timeout, server 10.0.0.1 not responding.", Cause.CONNECTION_LOST),
    (
        True,
        "reached over ssh: Connection to 10.0.0.1 closed by remote host.",
        Cause.CONNECTION_LOST,
    ),
    (True, "via ssh: client_loop: send disconnect: Broken pipe", Cause.CONNECTION_LOST),
    (True, "via ssh: ssh: connect to host h port 22: No route to host", Cause.UNREACHABLE),
    (True, "Received disconnect: 2: Too many authentication failures", Cause.AUTH),
    (True, "via ssh: Your password has expired.", Cause.AUTH),
    (True, "via ssh: Unable to negotiate with h port 22: no matching host key", Cause.REFUSED),
    (True, "Timeout (12s) waiting for privilege escalation prompt: ", Cause.PRIVILEGE),
    (True, "something never seen before", Cause.UNREACHABLE),
    (False, "Incorrect sudo password", Cause.PRIVILEGE),
    (False, "dd: error: Disk quota exceeded", Cause.DISK_FULL),
    (False, "the service says: Connection refused", Cause.TASK_FAILED),
    (False, "agent said Permission denied (publickey)", Cause.TASK_FAILED),
    (False, "", Cause.TASK_FAILED),
]


@pytest.mark.parametrize(("unreachable", "message", "cause"), SAID)
def test_words_of_other_versions(unreachable: bool, message: str, cause: Cause) -> None:
    assert classify({"unreachable": unreachable, "msg": message})[0] is cause


def test_our_module_speaks_for_itself() -> None:
    result = {"cause": "checksum", "reason": "Not the bytes.", "msg": "No space left on device"}

    assert classify(result) == (Cause.CHECKSUM, "Not the bytes.")


def test_a_cause_we_do_not_know_is_a_failed_task() -> None:
    assert classify({"cause": "odd", "reason": "Why not."}) == (Cause.TASK_FAILED, "Why not.")


def test_of_a_loop_the_first_bad_item_counts() -> None:
    items = [{"msg": "fine"}, {"failed": True, "msg": "No space left on device"}]

    assert classify({"msg": "One or more items failed", "results": items})[0] is Cause.DISK_FULL


def test_our_own_ssh_killed_is_a_lost_connection() -> None:
    silent = {"msg": "No start of json char found", "module_stdout": "", "rc": -15}

    assert classify(silent)[0] is Cause.CONNECTION_LOST


def test_a_flood_of_words_is_cut() -> None:
    assert len(classify({"msg": "x" * 100_000})[1]) < 500
