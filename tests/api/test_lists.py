"""Lists answer a POST as well; one that means to create is refused, and never looks done."""

from typing import Any

import pytest

from tests.api.conftest import Call


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/cloud/", {"bk_cloud_name": "far away", "isp": "x", "ap_id": 1}),
        ("/api/ap/", {"name": "another"}),
        ("/api/install_channel/", {"name": "another", "jump_servers": ["192.0.2.1"]}),
    ],
)
def test_creating_is_refused_and_listing_is_not(
    call: Call, path: str, body: dict[str, Any]
) -> None:
    assert call(path, {})["result"]

    refused = call(path, body)

    assert refused["code"] == 3800001
    assert "cannot be created" in refused["message"]
