"""Calls that fail for one resource of theirs, when a test asks for it (`PUT /_local/refuse`).

A call on several resources fails as a whole where one is refused, as EC2's do. DynamoDB says which item of a
transaction it was; BatchGetItem hands back the keys that it did not get to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from control import Json, called_by, route

Answer = tuple[int, dict[str, str], bytes]

# Error codes for the Amazon EC2 API; "Common error types" and "Error handling" of DynamoDB. All others are 400.
_STATUS = {
    "AuthFailure": 403,
    "InternalError": 500,
    "InternalServerError": 500,
    "RequestLimitExceeded": 503,
    "Unavailable": 503,
    "UnauthorizedOperation": 403,
}
_MESSAGES = {
    "AccessDeniedException": "User is not authorized to perform this operation on this item",
    "TagLimitExceeded": "The maximum number of Tags for a resource has been reached.",
    "UnauthorizedOperation": "You are not authorized to perform this operation.",
}
# TransactionCanceledException, API reference: cancellation reason codes and messages
_CANCELLATIONS = {
    "ConditionalCheckFailed": "The conditional request failed.",
    "ItemCollectionSizeLimitExceeded": "Collection size exceeded.",
    "ProvisionedThroughputExceeded": "The level of configured provisioned throughput for the table was exceeded. "
    "Consider increasing your provisioning level with the UpdateTable API",
    "ThrottlingError": "Throughput exceeds the current capacity for one or more global secondary indexes.",
    "TransactionConflict": "Transaction is ongoing for the item.",
}
# Not an error: BatchGetItem leaves the keys to another call.
_UNPROCESSED = "Unprocessed"


@dataclass
class _Refused:
    """Calls of an action on a resource fail with a code: the next so many, or all."""

    id: str
    action: str
    error_code: str
    app: str | None
    calls: float
    seen: int = 0


_refused: list[_Refused] = []


def refusal(service: str, action: str, user_agent: str, parameters: Json) -> Answer | None:
    """The answer to a call that a test wants refused; counts it."""
    for refused in _matching(action, user_agent, parameters):
        if refused.error_code == _UNPROCESSED:
            continue
        refused.seen += 1
        if service == "dynamodb":
            return _dynamodb(refused, action, parameters)
        return _xml(service, refused.error_code)
    return None


def unprocessed(action: str, user_agent: str, parameters: Json, answer: Any) -> Any:
    """BatchGetItem's answer without the items that a test wants left over, and their keys beside it."""
    for refused in _matching(action, user_agent, parameters) if action == "BatchGetItem" and answer[0] == 200 else []:
        if refused.error_code != _UNPROCESSED:
            continue
        refused.seen += 1
        body = json.loads(answer[2])
        for table, wanted in parameters["RequestItems"].items():
            left = [key for key in wanted["Keys"] if _names(key, refused.id)]
            if left:
                found = body["Responses"].get(table, [])
                body["Responses"][table] = [item for item in found if not any(_has(item, key) for key in left)]
                others = body["UnprocessedKeys"].get(table, {}).get("Keys", [])
                body["UnprocessedKeys"][table] = {**wanted, "Keys": [*others, *left]}
        headers = {name: value for name, value in answer[1].items() if name.lower() != "x-amz-crc32"}
        answer = (200, headers, json.dumps(body).encode())
    return answer


def _matching(action: str, user_agent: str, parameters: Json) -> list[_Refused]:
    return [
        refused
        for refused in _refused
        if refused.action == action
        and refused.seen < refused.calls
        and called_by(refused.app, user_agent)
        and any(_names(resource, refused.id) for resource in _resources(parameters))
    ]


def _resources(parameters: Json) -> Iterator[Any]:
    """What a call is about: keys and items of DynamoDB, parameters of EC2 and Auto Scaling but for tags."""
    yield from _operations(parameters)
    for wanted in (parameters.get("RequestItems") or {}).values():
        yield from wanted["Keys"] if isinstance(wanted, dict) else []
    yield {key: value for key, value in parameters.items() if not key.startswith(("Tag.", "TagSpecification."))}


def _operations(parameters: Json) -> list[Any]:
    """The key or the item of each part of a transaction, or of a call on one item."""
    parts = [part for item in parameters.get("TransactItems") or [] for part in item.values()] or [parameters]
    return [part.get("Key") or part.get("Item") or {} for part in parts]


def _names(resource: Json, resource_id: str) -> bool:
    """Whether the id is a value in there, or part of a text in DynamoDB, where keys are put together."""
    return any(
        resource_id in value.get("S", "") if isinstance(value, dict) else resource_id == value
        for value in resource.values()
    )


def _has(item: Json, key: Json) -> bool:
    return all(item.get(name) == value for name, value in key.items())


def _dynamodb(refused: _Refused, action: str, parameters: Json) -> Answer:
    if action == "TransactWriteItems" and refused.error_code in _CANCELLATIONS:
        reason = {"Code": refused.error_code, "Message": _CANCELLATIONS[refused.error_code]}
        reasons = [
            reason if _names(operation, refused.id) else {"Code": "None"} for operation in _operations(parameters)
        ]
        codes = ", ".join(reason["Code"] for reason in reasons)
        message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
        return _json("TransactionCanceledException", 400, {"Message": message, "CancellationReasons": reasons})
    message = _MESSAGES.get(refused.error_code, f"{action}: a test asked for this")
    return _json(refused.error_code, _STATUS.get(refused.error_code, 400), {"message": message})


def _json(code: str, status: int, body: Json) -> Answer:
    text = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", **body})
    return status, {"Content-Type": "application/x-amz-json-1.0"}, text.encode()


def _xml(service: str, code: str) -> Answer:
    error = f"<Code>{code}</Code><Message>{escape(_MESSAGES.get(code, 'a test asked for this'))}</Message>"
    body = (
        f"<Response><Errors><Error>{error}</Error></Errors><RequestID>refused</RequestID></Response>"
        if service == "ec2"
        else f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>refused</RequestId></ErrorResponse>"
    )
    return _STATUS.get(code, 400), {"Content-Type": "text/xml"}, body.encode()


# --- Control ----------------------------------------------------------------------------------------------------------


@route("PUT", "refuse")
def _refuse(body: Json, _query: dict[str, list[str]]) -> list[Json]:
    if not body:
        _refused.clear()
        return []
    calls = float(body.get("calls", "inf"))
    _refused.append(_Refused(str(body["id"]), str(body["action"]), str(body["error_code"]), body.get("app"), calls))
    return _state({}, {})


@route("GET", "refuse")
def _state(_body: Json, _query: dict[str, list[str]]) -> list[Json]:
    return [
        {**vars(refused), "calls": None if refused.calls == float("inf") else int(refused.calls)}
        for refused in _refused
    ]
