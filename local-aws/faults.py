"""One call that goes wrong, in the way and at the moment that a test asks for (`PUT /_local/fault`).

Codes and statuses are those of each service's list of common errors.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

Answer = tuple[int, dict[str, str], bytes]

_LONGER_THAN_ANY_TEST = 3600
_EC2 = {
    "throttled": (503, "RequestLimitExceeded"),
    "server": (500, "InternalError"),
    "denied": (403, "UnauthorizedOperation"),
}
_DYNAMODB = {
    "throttled": (400, "ProvisionedThroughputExceededException"),
    "server": (500, "InternalServerError"),
    "denied": (400, "AccessDeniedException"),
}
_QUERY = {"throttled": (400, "Throttling"), "server": (500, "InternalFailure"), "denied": (403, "AccessDenied")}


async def strike(kind: str, service: str, action: str, carry_out: Callable[[], Awaitable[Any]]) -> Any:
    """The answer instead of the right one; for the kinds that hold there is none."""
    if kind == "hold-after":
        await carry_out()
    if kind in ("hold-before", "hold-after", "timeout"):
        await asyncio.sleep(_LONGER_THAN_ANY_TEST)
    if kind == "lost":
        # Less than it promises: the server closes the connection in the middle of the answer.
        return 200, {"Content-Type": "text/xml", "Content-Length": "1000"}, b"<"
    if kind == "garbled":
        return 200, {"Content-Type": "text/xml"}, b"<<< not what anybody expects"
    return _error(kind, service, action)


def _error(kind: str, service: str, action: str) -> Answer:
    message = f"{action}: a test asked for this"
    if service == "dynamodb":
        status, code = _DYNAMODB[kind]
        body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message})
        return status, {"Content-Type": "application/x-amz-json-1.0"}, body.encode()
    status, code = (_EC2 if service == "ec2" else _QUERY)[kind]
    error = f"<Code>{code}</Code><Message>{message}</Message>"
    body = (
        f"<Response><Errors><Error>{error}</Error></Errors><RequestID>fault</RequestID></Response>"
        if service == "ec2"
        else f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>fault</RequestId></ErrorResponse>"
    )
    return status, {"Content-Type": "text/xml"}, body.encode()
