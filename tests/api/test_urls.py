"""However a client spells an address, it arrives; addresses of others are left alone."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st

from app.api.nodeman.urls import is_ours, normalise

WAYS_IN = ["", "/api/c/compapi/v2/nodeman", "/api/c/compapi/nodeman", "/api/bk-nodeman/prod"]
AUDIENCES = ["", "/open", "/system"]


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("/api/job/install", "/api/job/install/"),
        ("/job/install", "/api/job/install/"),
        ("/plugin/operate/", "/api/plugin/operate/"),
        ("/ap", "/api/ap/"),
        ("/cloud/", "/api/cloud/"),
        ("/cloud/list_cloud_area/", "/api/cloud/"),
        ("/install_channel/", "/api/install_channel/"),
        ("/remove_host/", "/api/host/remove_host/"),
        ("/api/remove_host/", "/api/host/remove_host/"),
        ("/subscription_task_result/", "/backend/api/subscription/task_result/"),
        ("/plugin_create_register_task", "/backend/api/plugin/create_register_task/"),
        ("/backend/report_log", "/backend/report_log/"),
        (
            "/core/system/api/ipchooser_host/details/",
            "/core/api/ipchooser_host/details/",
        ),
        (
            "/system/api/encrypt_rsa/fetch_public_keys/",
            "/core/api/encrypt_rsa/fetch_public_keys/",
        ),
        ("/api/v2/host/search", "/api/v2/host/search/"),
    ],
)
def test_each_spelling_means_one_address(spelled: str, meant: str) -> None:
    assert normalise(spelled) == meant
    assert is_ours(meant)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/rq",
        "/rq/api/queues",
        "/jobs/",
        "/jobs/7/",
        "/healthz",
        "/openapi.json",
        "/docs",
        "/login",
        "/logout",
        "/static/console/app.css",
        "/api/v1/tasks",
        "/api/v2/tasks/instances/1/subtasks/2/retry",
        "/api/v2/iam/login",
        "/nothing",
    ],
)
def test_addresses_of_others_stay_as_they_are(path: str) -> None:
    assert normalise(path) == path
    assert not is_ours(path)


def test_every_endpoint_is_reached_by_every_gateway(client: FlaskClient) -> None:
    for rule in routes(client.application):
        for way_in in WAYS_IN:
            for audience in AUDIENCES:
                assert normalise(f"{way_in}{audience}{rule}") == rule
                assert normalise(f"{way_in}{audience}{rule}".rstrip("/")) == rule


def routes(app: Flask) -> list[str]:
    """Our own addresses, with a number for each variable."""
    rules = (rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("nodeman."))
    return sorted({str(rule).replace("<job_id>", "7") for rule in rules})


WORDS = """api c compapi v2 v1 nodeman bk-nodeman prod open system job install tasks core backend
rq jobs host .. %2e é subscription_run plugin_info remove_host healthz encrypt_rsa"""
SEGMENTS = st.sampled_from(["", *WORDS.split()])


@given(st.lists(SEGMENTS | st.text(max_size=5), max_size=7), st.booleans())
@example(["api", "c", "compapi", "v2", "nodeman", "api", "v2", "tasks"], True)
@example(["api", "bk-nodeman", "prod", "rq"], False)
def test_a_normalised_address_stays_and_never_becomes_somebody_elses(
    segments: list[str], slash: bool
) -> None:
    path = "/" + "/".join(segments) + ("/" if slash else "")

    found = normalise(path)

    assert normalise(found) == found
    assert found == path or is_ours(found)
