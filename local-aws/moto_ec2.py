"""EC2 of the local AWS: moto's implementation, called in this process, with EC2's refusals in front of it.

Two ways in. `handle_request` replaces ministack's EC2 and serves the endpoint: it authorises the caller first.
`client()` is a boto3 client whose requests never leave the process: CloudFormation's own calls, which need no
authorisation here. Both end in `perform`, so both meet the same rules, one call at a time.
"""

from __future__ import annotations

import functools
import threading
import uuid
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from moto.core.botocore_stubber import MockRawResponse
from moto.ec2.models import EC2Backend, ec2_backends
from moto.server import create_backend_app

import authorisation
import ec2_rules
import paging
import readings
import throttle
from ec2_rules import Params, Refusal

ACCOUNT = "123456789012"
REGION = "us-east-1"
# moto takes the region from the credential scope.
_SCOPE = f"AWS4-HMAC-SHA256 Credential=local/20260101/{REGION}/ec2/aws4_request"
# One call at a time, Auto Scaling's too: they share moto's instances.
lock = threading.Lock()


def backend() -> EC2Backend:
    """moto's EC2 state for the one account and region there is."""
    return ec2_backends[ACCOUNT][REGION]


@functools.cache
def _moto() -> Any:
    return create_backend_app("ec2").test_client()


def perform(params: Params, omitted: readings.Omissions | None = None) -> tuple[int, bytes]:
    """One EC2 call: refuse what EC2 refuses, let moto do the rest. Returns HTTP status and XML body."""
    action = params.get("Action", "")
    with lock:
        readings.leave_out(omitted or readings.Omissions())
        try:
            answer = ec2_rules.before(backend(), action, params)
        except Refusal as refusal:
            return refusal.status, error_xml(refusal)
        if answer is not None:
            return 200, answer
        with ec2_rules.reading(action):
            response = _moto().post("/", data=params, headers={"Authorization": _SCOPE})
        if response.status_code == 200:
            ec2_rules.after(backend(), action, params, response.data)
        return response.status_code, response.data


def error_xml(refusal: Refusal) -> bytes:
    """EC2's error envelope."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message></Error></Errors>"
        f"<RequestID>{uuid.uuid4()}</RequestID></Response>"
    ).encode()


async def handle_request(
    _method: str, _path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
) -> tuple[int, dict[str, str], bytes]:
    """ministack's service interface: throttle, authorise the caller on every resource of the call, then perform it."""
    params = {key: values[-1] for key, values in query.items()}
    params.update(parse_qsl(body.decode(), keep_blank_values=True))
    try:
        throttle.take(params)
        authorisation.authorise(backend(), headers, query, params)
        paging.admit(params)
        omitted = readings.omissions(params, headers.get("user-agent", ""))
    except Refusal as refusal:
        status, answer = refusal.status, error_xml(refusal)
    else:
        status, answer = perform(params, omitted)
    return status, {"Content-Type": "text/xml;charset=UTF-8"}, answer


@functools.cache
def client() -> Any:
    """A boto3 EC2 client for CloudFormation's own calls, answered in this process."""
    ec2 = boto3.client(
        "ec2",
        region_name=REGION,
        endpoint_url="http://127.0.0.1",
        aws_access_key_id="cloudformation",
        aws_secret_access_key="in-process",
        config=Config(retries={"max_attempts": 0}),
    )

    def answer(request: Any, **_: Any) -> AWSResponse:
        body = request.body.decode() if isinstance(request.body, bytes) else request.body
        status, xml = perform(dict(parse_qsl(body, keep_blank_values=True)))
        return AWSResponse(request.url, status, {"Content-Type": "text/xml"}, MockRawResponse(xml))

    ec2.meta.events.register("before-send.ec2", answer)
    return ec2
