"""Every word of the core has a word on the wire."""

import inspect

import pytest

from app.api.nodeman import vocabulary
from app.domain import errors
from app.domain.catalogue import CATALOGUE
from app.domain.commands import FilteredHost
from app.domain.states import JobStatus, Status


def test_every_status_is_translated() -> None:
    assert vocabulary.STATUS.keys() == set(Status)
    assert vocabulary.STATUS_TITLE.keys() == set(Status)
    assert vocabulary.JOB_STATUS.keys() == set(JobStatus)


def test_every_job_type_has_titles_in_both_languages() -> None:
    for name, job_type in CATALOGUE.items():
        assert vocabulary.job_title(name, "en") != vocabulary.job_title(name, "zh")
        assert vocabulary.operation_title(job_type.operation, "zh") != job_type.operation
        assert vocabulary.job_meta(name, "en")["step_type"] == job_type.node.value


ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.HostlerError)
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_and_a_sentence(kind: type[errors.HostlerError]) -> None:
    fault = vocabulary.fault_of(kind())

    assert fault.code == vocabulary.DENIED or 3_800_000 < int(fault.code) < 3_900_000
    assert fault.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidRequest("x"), 3800001),
        (errors.Forbidden(), 9900403),
        (errors.JobNotFound(), 3801012),
        (errors.AllFiltered(filtered=()), 3801018),
        (errors.NoProxy(filtered=()), 3801013),
        (errors.NothingToRetry(), 3800007),
        (errors.NothingToStop(), 3800016),
        (errors.LoginMissing(), 3801011),
        (errors.TaskNotFound(), 3800003),
        (errors.NotReady(), 3800015),
        (vocabulary.MixedManual(), 3801024),
        (vocabulary.NotYourHost(), 3801022),
        (errors.InstallChannelNotFound(), 3801037),
    ],
)
def test_the_codes_clients_know(error: errors.HostlerError, code: int | str) -> None:
    assert vocabulary.fault_of(error).code == code


def test_a_new_kind_of_error_speaks_like_its_family() -> None:
    class Unheard(errors.NotFound):
        """Nobody told the dialect."""

    assert vocabulary.fault_of(Unheard()).code == 3800404


def test_hosts_without_a_proxy_are_listed_where_clients_look() -> None:
    host = FilteredHost(reason="no proxy", zone_id=3, inner_ip="10.0.0.1", exception="no_proxy")

    data = vocabulary.fault_of(errors.NoProxy(filtered=(host,))).data

    assert data["job_id"] is None
    assert data["ip_filter"][0]["exception"] == "no_proxy"
    assert data["ip_filter"][0]["ip"] == "10.0.0.1"
