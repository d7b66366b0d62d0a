"""What DynamoDB refuses of BatchGetItem and ministack does not. Everything else of DynamoDB is ministack's own.

ministack's transactions, their reasons, limits and authorisation were compared with the API reference: they hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from control import Json

MAX_BATCH_KEYS = 100  # BatchGetItem, API reference: "as many as 100 items", over all tables


def repair_ministack() -> None:
    """Put the rules before ministack's BatchGetItem. Call once, at start."""
    from ministack.services import dynamodb

    dynamodb._batch_get_item = _checked(dynamodb._batch_get_item)


def _checked(original: Callable[[Json], Any]) -> Callable[[Json], Any]:
    from ministack.core.responses import error_response_json
    from ministack.services.dynamodb import _validate_expression_attrs

    def batch_get_item(data: Json) -> Any:
        wanted = [each for each in (data.get("RequestItems") or {}).values() if isinstance(each, dict)]
        if sum(len(each.get("Keys") or []) for each in wanted) > MAX_BATCH_KEYS:
            # BatchGetItem, API reference, in these words
            message = "Too many items requested for the BatchGetItem call"
            return error_response_json("ValidationException", message, 400)
        for each in wanted:
            # DynamoDB quotas: an expression string is at most 4 KB long; names must be defined, as in GetItem
            if error := _validate_expression_attrs(each, ("ProjectionExpression",), "bare"):
                return error
        return original(data)

    return batch_get_item
