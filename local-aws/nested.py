"""Nested stacks where ministack differs from CloudFormation.

- A nested template with a SAM transform is expanded, as any other (AWS::CloudFormation::Stack,
  "CAPABILITY_AUTO_EXPAND").
- The Delete of a nested stack is a deletion of its own: the nested stack says DELETE_IN_PROGRESS whatever its parent
  says, its DeletionPolicies hold, and what cannot be deleted leaves it in DELETE_FAILED and fails its parent's
  operation with "Embedded stack ... was not successfully deleted". ministack logs a warning, forgets the resources, and
  goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

_is_nested: contextvars.ContextVar[bool] = contextvars.ContextVar("is_nested", default=False)


def install(handlers: dict[str, Callable[..., Any]], delete_stack: Callable[..., Any]) -> None:
    """Put this over ministack's handlers of AWS::CloudFormation::Stack.

    `delete_stack` deletes a stack as CloudFormation does.
    """
    from ministack.services.cloudformation import engine

    parse = engine._parse_template

    def parse_and_expand(body: str) -> Any:
        template = parse(body)
        return engine._apply_transforms(template) if _is_nested.get() else template

    # Found by this name where a nested stack is deployed, and only there.
    engine._parse_template = parse_and_expand
    for name in ("create", "update"):
        handlers[name] = _expanding(handlers[name])
    handlers["delete"] = _deleting(delete_stack)


def _expanding(original: Callable[..., Any]) -> Callable[..., Any]:
    def deploy(*arguments: Any) -> Any:
        token = _is_nested.set(True)
        try:
            return original(*arguments)
        finally:
            _is_nested.reset(token)

    return deploy


def _deleting(delete_stack: Callable[..., Any]) -> Callable[[str, Any], None]:
    def delete(physical_id: str, _properties: Any) -> None:
        from ministack.services.cloudformation import _stacks
        from ministack.services.cloudformation.provisioners import _nested_stack_lookup_name

        name = _nested_stack_lookup_name(physical_id)
        child = _stacks.get(name)
        if child is None or child["StackStatus"] == "DELETE_COMPLETE":
            return
        child["StackStatusReason"] = ""
        # This is a thread of its own: a nested stack may hold custom resources.
        asyncio.run(delete_stack(name, child["StackId"]))
        if child["StackStatus"] != "DELETE_COMPLETE":
            reason = child.get("StackStatusReason", "")
            raise RuntimeError(f"Embedded stack {child['StackId']} was not successfully deleted: {reason}")

    return delete
