"""Which changed properties replace a resource, and that CloudFormation replaces none while rollback is disabled.

Sources: the types' registry schemas (schemas.py); for the refusal aws/aws-sam-cli#4585 and
smoketurner/serverless-vpc-plugin#1221: the resource fails. What came before it has been updated by then, and what comes
after it is not. ministack itself refuses to replace what has a name of its own.
"""

from __future__ import annotations

from typing import Any

import custom_resources
import schemas
import ssm_documents
from control import route


def install(provisioners: Any) -> None:
    """Tell ministack what has a name of its own."""
    provisioners._CUSTOM_NAME_REPLACEMENT["AWS::SSM::Document"] = {"name": "Name"}


def changes_of(original: Any) -> Any:
    """ministack has its own table, which knows some types not, or not all of their properties."""

    def replacing(kind: str, old: Any, new: Any) -> bool:
        if schemas.of(kind) is None:
            return bool(original(kind, old, new))
        if kind == "AWS::SSM::Document" and ssm_documents.replaces(old, new):
            return True
        return any(schemas.at(old, way) != schemas.at(new, way) for way in schemas.replacing(kind))

    return replacing


def told_of(original: Any) -> Any:
    def recreation(kind: str, name: str) -> str:
        """What a change set says of a property."""
        if schemas.of(kind) is None:
            return str(original(kind, name))
        if (name,) in schemas.create_only(kind):
            return "Always"
        nested = any(way[0] == name for way in schemas.create_only(kind))
        return "Conditionally" if nested or name in schemas.on_conditions(kind) else "Never"

    return recreation


def _changes_token(resource_type: str, old: Any, new: Any) -> bool:
    return custom_resources.is_custom(resource_type) and old.get("ServiceToken") != new.get("ServiceToken")


def takes_back(stack: dict[str, Any], resource_type: str, old: Any, new: Any) -> bool:
    """Whether a rollback would undo what was refused, of which nothing was done (cloudcomponents/cdk-constructs#197:
    UPDATE_ROLLBACK_COMPLETE). That no function is called for it is inferred.
    """
    return stack["StackStatus"].startswith("UPDATE_ROLLBACK") and _changes_token(resource_type, old, new)


def check(stack: dict[str, Any], resource_type: str, old: Any, new: Any) -> None:
    """Refuse an update that CloudFormation refuses."""
    from ministack.services.cloudformation import provisioners

    if _changes_token(resource_type, old, new):
        # cloudcomponents/cdk-constructs#197, serverless/serverless#9240, aws-solutions/aws-waf-security-automations#114
        raise RuntimeError("Modifying service token is not allowed.")
    if stack.get("_disables_rollback") and provisioners._replacing_change(resource_type, old, new):
        raise RuntimeError("Replacement type updates not supported on stack with disable-rollback.")


@route("GET", "replacing")
def _replacing(_body: dict[str, Any], query: dict[str, list[str]]) -> dict[str, Any]:
    """Which properties of a type replace it, each tried by itself."""
    from ministack.services.cloudformation import provisioners

    kind = query["type"][0]
    names = (schemas.of(kind) or {"properties": {}})["properties"]
    tried = [name for name in names if provisioners._replacing_change(kind, {name: "one"}, {name: "two"})]
    return {"replacing": sorted(tried)}
