"""Resources whose Create failed: DescribeStackResources shows them with their Reason, until they are made.

DescribeStackResources, API reference (ResourceStatus, ResourceStatusReason); ministack drops them. A custom resource's
is kept by `stacks`, since it has an id that a Delete is sent for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

_failed: dict[tuple[str, str], tuple[str, str]] = {}


def note(stack_id: str, logical_id: str, resource_type: str, status: str, reason: str) -> None:
    """What an event tells of a resource, whether its properties could not be resolved or it could not be made."""
    if status.endswith("_FAILED"):
        _failed[(stack_id, logical_id)] = (resource_type, reason)
    elif status.endswith("_COMPLETE"):
        _failed.pop((stack_id, logical_id), None)


def describing(original: Callable[..., Any]) -> Callable[..., Any]:
    def describe(params: dict[str, Any]) -> Any:
        from ministack.core.responses import now_iso
        from ministack.services.cloudformation import handlers
        from ministack.services.cloudformation.helpers import _p

        status, headers, body = original(params)
        stack = handlers._resolve_stack(_p(params, "StackName"))
        if status != 200 or stack is None or _p(params, "LogicalResourceId"):
            return status, headers, body
        shown = stack.get("_resources", {})
        text = ""
        for (stack_id, logical_id), (resource_type, reason) in list(_failed.items()):
            if stack_id != stack["StackId"] or logical_id in shown or stack["StackStatus"] == "DELETE_COMPLETE":
                continue
            fields = {
                "LogicalResourceId": logical_id,
                "ResourceType": resource_type,
                "ResourceStatus": "CREATE_FAILED",
                "ResourceStatusReason": reason,
                "Timestamp": now_iso(),
                "StackName": stack["StackName"],
                "StackId": stack_id,
            }
            members = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
            text += f"<member>{members}</member>"
        end = b"</StackResources>"
        if end not in body:
            body = body.replace(b"<StackResources/>", b"<StackResources></StackResources>")
        return status, headers, body.replace(end, text.encode() + end)

    return describe
