"""What a host that is installed by hand fetches and reports; a token is all it has."""

from typing import Any

from flask import Blueprint, Response, jsonify, request
from marshmallow import INCLUDE, Schema, fields

from app.api.dialect import base_url, context, parameters
from app.api.nodeman.endpoint import load
from app.api.nodeman.fields import Asked, Rows, Text
from app.domain.errors import HostlerError, InvalidRequest
from app.jobs.installer import installer_of
from app.jobs.report import take_report
from app.packages.installer import make_refusal

INSTALLER_PATH = "/backend/tools/install/"
REPORT_PATH = "/backend/report_log/"
PROGRAM = "text/x-python"


class Release(Schema):
    """The release that is in place now."""

    class Meta:
        unknown = INCLUDE

    name = Text()
    version = Text()


class Found(Schema):
    """What is on the host now; whatever else there is to say is kept with the part."""

    class Meta:
        unknown = INCLUDE

    cpu_arch = Text(most=16)
    os_version = Text()
    hostname = Text()
    release = fields.Nested(Release, allow_none=True)


class ReportEntry(Asked):
    """One thing that happened; status DONE or FAILED ends the part."""

    step = Text()
    status = Text()
    log = fields.String(allow_none=True)
    cause = Text()
    after = fields.Nested(Found, allow_none=True)


class Report(Asked):
    """What a host says of its own installation."""

    token = Text(metadata={"description": "or in the header X-Report-Token"})
    logs = Rows(ReportEntry, required=True)


def register(blueprint: Blueprint) -> None:
    """Add the addresses that hosts call."""
    blueprint.add_url_rule(INSTALLER_PATH, "installer", installer)
    blueprint.add_url_rule(REPORT_PATH, "report_log", report_log, methods=["POST"])


def report_log() -> Response:
    """What a host says of its own installation."""
    said = parameters(mend_text=True)  # the last words of an agent may be bytes of any kind
    token = _token(said)
    take_report(context(), token, load(Report(), said)["logs"])
    return jsonify({})  # without the envelope: installers expect it so


def installer() -> Response:
    """The program a person pipes into Python on a host."""
    try:
        program = installer_of(context(), _token(parameters()), f"{base_url()}{REPORT_PATH}")
    except HostlerError as error:
        # whoever pastes the command runs the answer, whatever it is: so it tells them
        return Response(make_refusal(error.message), status=403, mimetype=PROGRAM)
    return Response(program, mimetype=PROGRAM)


def _token(said: dict[str, Any]) -> str:
    token = said.get("token") or request.headers.get("X-Report-Token")
    if not isinstance(token, str) or not token:
        raise InvalidRequest("token is missing.", field="token")
    return token
