"""Custom resources as CloudFormation treats them: the event, the ResponseURL, what counts as an answer.

ministack's own version waits for the function itself, takes any answer and gives a failed Create no id. Here the
function is invoked asynchronously, with Lambda's retries; the answer is judged by CloudFormation's rules; a Create that
failed raises `Failed` with the id CloudFormation would go on with. Sources: AWS CloudFormation user guide, "Custom
resource request and response objects"; the wording of refusals from crhelper#67, cfn-postgresql#2, aws-cdk#24501.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import service_roles
from authorisation import Check
from control import Json, log
from resources import invented_name

ANSWER_PATH = "/cloudformation-custom-resource-response-useast1/"
MAX_ANSWER_BYTES = 4096
MAX_PHYSICAL_ID_BYTES = 1024
logger = logging.getLogger("local_aws.custom_resources")


class Failed(Exception):
    """The request failed; `physical_id` is what CloudFormation calls the resource from now on."""

    def __init__(self, reason: str, physical_id: str) -> None:
        super().__init__(reason)
        self.physical_id = physical_id


class _Refused(Exception):
    """The answer breaks a rule; the text is CloudFormation's."""


@dataclass
class _Pending:
    """A request whose answer is awaited."""

    event: Json
    arrived: threading.Event = field(default_factory=threading.Event)
    body: bytes = b""


_pending: dict[str, _Pending] = {}


def is_custom(resource_type: str) -> bool:
    return resource_type.startswith("Custom::") or resource_type == "AWS::CloudFormation::CustomResource"


def receive(method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> int:
    """S3's part: take the PUT to a ResponseURL. The first one counts. Returns the HTTP status."""
    pending = _pending.get(path.rpartition("|")[2])
    if method != "PUT" or pending is None:
        status = 403
    elif headers.get(b"content-type"):
        # User guide: the Content-Type must be empty or omitted; S3 answers SignatureDoesNotMatch otherwise.
        status = 403
    elif b"content-length" not in headers:
        # PutObject, API reference: MissingContentLength; S3 takes no chunked upload that is not signed as one.
        status = 411
    else:
        status = 200
        if not pending.arrived.is_set():
            pending.body = body
            pending.arrived.set()
    event = pending.event if pending is not None else {}
    log.answers.append(
        {
            "request_id": event.get("RequestId"),
            "request_type": event.get("RequestType"),
            "stack_id": event.get("StackId"),
            "logical_resource_id": event.get("LogicalResourceId"),
            "status_code": status,
            "size": len(body),
            "body": body.decode(errors="replace"),
        }
    )
    return status


def invoke(
    request_type: str,
    logical_id: str,
    properties: Json,
    stack_name: str,
    stack_id: str,
    resource_type: str,
    physical_id: str | None = None,
    old_props: Json | None = None,
) -> tuple[str, Json]:
    """Send one request and wait for its answer. Blocks: call it on a worker thread only.

    Returns the physical id and Data. Same signature as ministack's `invoke_custom_resource`, which it replaces.
    """
    event: Json = {
        "RequestType": request_type,
        "RequestId": str(uuid.uuid4()),
        "StackId": stack_id,
        "ResourceType": resource_type,
        "LogicalResourceId": logical_id,
        "ServiceToken": properties.get("ServiceToken", ""),
        "ResourceProperties": stringified(properties),
    }
    if physical_id is not None:
        event["PhysicalResourceId"] = physical_id
    if old_props is not None:
        event["OldResourceProperties"] = stringified(old_props)
    invented = physical_id or invented_name(stack_name, logical_id)
    pending = _Pending(event)
    key = f"{stack_id}|{logical_id}|{event['RequestId']}"
    event["ResponseURL"] = _response_url(key)
    _pending[event["RequestId"]] = pending
    try:
        _start_function(event, invented)
        if not pending.arrived.wait(_timeout(properties)):
            raise Failed(
                "CloudFormation did not receive a response from your Custom Resource. Please check your logs for "
                f"requestId [{event['RequestId']}]. If you are using the Python cfn-response module, you may need to "
                "update your Lambda function code so that CloudFormation can attach the updated version.",
                invented,
            )
        try:
            answer = _judge(event, pending.body)
        except _Refused as refused:
            raise Failed(str(refused), invented) from refused
    finally:
        # A late PUT finds nothing: the URL is used up.
        del _pending[event["RequestId"]]
    if answer["Status"] == "FAILED":
        reason = (
            "Received response status [FAILED] from custom resource. Message returned: "
            f"{answer['Reason']} (RequestId: {event['RequestId']})"
        )
        raise Failed(reason, physical_id or answer["PhysicalResourceId"])
    return answer["PhysicalResourceId"], answer.get("Data") or {}


def stringified(value: Any) -> Any:
    """Properties as they travel: every scalar a string, at every depth; lists and maps keep their shape."""
    if isinstance(value, dict):
        return {key: stringified(item) for key, item in value.items()}
    if isinstance(value, list):
        return [stringified(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _response_url(key: str) -> str:
    """Shaped like S3's: the key percent-encoded, valid for two hours from X-Amz-Date."""
    from ministack.services.cloudformation.custom_resource import _gateway_url

    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Expires": "7200",
        "X-Amz-Signature": uuid.uuid4().hex,
    }
    return f"{_gateway_url()}{ANSWER_PATH}{quote(key, safe='')}?{urlencode(query)}"


def _start_function(event: Json, physical_id: str) -> None:
    from ministack.services import lambda_svc

    try:
        # KensioSoftware/yulin#1329
        service_roles.require(Check("lambda:InvokeFunction", event["ServiceToken"]))
    except PermissionError as denied:
        raise Failed(str(denied), physical_id) from denied
    function, configuration, _name = lambda_svc._get_func_record_for_ref(event["ServiceToken"])
    if function is None or configuration is None:
        raise Failed(
            f"Function not found: {event['ServiceToken']} (Service: Lambda, Status Code: 404, Error Code: "
            "ResourceNotFoundException)",
            physical_id,
        )
    record = lambda_svc._execution_record_for_config(function, configuration)
    lambda_svc.invoke_async_with_retry(record, event)


def _timeout(properties: Json) -> int:
    """ServiceTimeout: 1 to 3600 seconds, 3600 where absent."""
    return min(max(int(properties.get("ServiceTimeout") or 3600), 1), 3600)


def _judge(event: Json, body: bytes) -> Json:
    """The answer, if CloudFormation would take it."""
    if len(body) > MAX_ANSWER_BYTES:
        raise _Refused("Response object is too long.")
    try:
        answer = json.loads(body)
    except ValueError:
        raise _Refused("Response is not valid JSON") from None
    if not isinstance(answer, dict):
        raise _Refused("Response is not valid JSON")
    physical_id = answer.get("PhysicalResourceId")
    if physical_id is not None and not isinstance(physical_id, str):
        raise _Refused("Invalid Response object: Value of property PhysicalResourceId must be of type String")
    if not physical_id or len(physical_id.encode()) > MAX_PHYSICAL_ID_BYTES:
        raise _Refused("Invalid PhysicalResourceId")
    for name in ("StackId", "RequestId", "LogicalResourceId"):
        if answer.get(name) != event[name]:
            raise _Refused(f"Invalid Response object: {name} does not match the request")
    if answer.get("Status") not in ("SUCCESS", "FAILED"):
        raise _Refused("Invalid Response object: Status must be SUCCESS or FAILED")
    if answer["Status"] == "FAILED" and not answer.get("Reason"):
        raise _Refused("Invalid Response object: Reason is required when Status is FAILED")
    data = answer.get("Data") or {}
    if not isinstance(data, dict) or any(isinstance(value, (dict, list)) for value in data.values()):
        raise _Refused("Value of property Data must be an object with String (or simple type) properties")
    return answer
