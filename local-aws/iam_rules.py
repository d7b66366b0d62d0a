"""What IAM refuses of managed policies and ministack does not, by its API and through CloudFormation.

Sources: IAM API reference, AttachRolePolicy and CreatePolicy (NoSuchEntity, UnmodifiableEntity, LimitExceeded); IAM
user guide, "IAM and STS quotas": 10 policies for a role by default, 6,144 characters for a policy, where white space
does not count. The words: aws/eks-hybrid#741 (PoliciesPerRole), aws/aws-parallelcluster#6132 (PolicySize), both as
CloudFormation shows them; rebuy-de/aws-nuke#331 and #441 (the roles that AWS protects). That CloudFormation leaves no
policy behind that it could not attach is inferred.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

MOST_POLICIES = 10
MOST_CHARACTERS = 6144
_PROTECTED = ("/aws-service-role/", "/aws-reserved/")
Handler = Callable[..., Any]
# The first is in the sources; the others are inferred (CloudFormation CLI, handler error codes).
_HANDLER_CODES = {
    "LimitExceeded": "ServiceLimitExceeded",
    "NoSuchEntity": "NotFound",
    "UnmodifiableEntity": "InvalidRequest",
}


@dataclass
class _Refusal:
    status: int
    code: str
    message: str


def install(provisioners: dict[str, dict[str, Any]]) -> None:
    """Put the rules before IAM's calls and before AWS::IAM::ManagedPolicy. Call once, at start."""
    from ministack.services import iam

    calls = iam._IAM_HANDLERS
    calls["AttachRolePolicy"] = _checked(calls["AttachRolePolicy"], _attaching)
    for action in ("CreatePolicy", "CreatePolicyVersion"):
        calls[action] = _checked(calls[action], _sizing)
    policy = provisioners["AWS::IAM::ManagedPolicy"]
    policy.update(create=_creating(policy["create"]), update=_updating(policy["update"]))


def _attachment(role_name: str, policy: str) -> _Refusal | None:
    from ministack.services import iam

    role = iam._roles.get(role_name)
    if role is None:
        return _Refusal(404, "NoSuchEntity", f"The role with name {role_name} cannot be found.")
    if role.get("Path", "/").startswith(_PROTECTED):
        words = (
            f"Cannot perform the operation on the protected role '{role_name}' - this role is only modifiable by AWS"
        )
        return _Refusal(400, "UnmodifiableEntity", words)
    attached = role.get("AttachedPolicies", [])
    if policy not in attached and len(attached) >= MOST_POLICIES:
        return _Refusal(409, "LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {MOST_POLICIES}")
    return None


def _size(document: Any) -> _Refusal | None:
    text = document if isinstance(document, str) else json.dumps(document)
    if len("".join(text.split())) > MOST_CHARACTERS:
        return _Refusal(409, "LimitExceeded", f"Cannot exceed quota for PolicySize: {MOST_CHARACTERS}")
    return None


def _attaching(params: Any) -> _Refusal | None:
    from ministack.services.iam import _p

    return _attachment(_p(params, "RoleName"), _p(params, "PolicyArn"))


def _sizing(params: Any) -> _Refusal | None:
    from ministack.services.iam import _p

    return _size(_p(params, "PolicyDocument"))


def _checked(original: Handler, check: Callable[[Any], _Refusal | None]) -> Handler:
    from ministack.services.iam import _error

    def call(params: Any) -> Any:
        refusal = check(params)
        return _error(refusal.status, refusal.code, refusal.message, ns="iam") if refusal else original(params)

    return call


def _require(refusals: Iterable[_Refusal | None]) -> None:
    """Raise what fails the resource."""
    for refusal in refusals:
        if refusal is not None:
            message = f"{refusal.message} (Service: Iam, Status Code: {refusal.status}, Request ID: {uuid.uuid4()})"
            code = _HANDLER_CODES[refusal.code]
            trailer = f"(RequestToken: {uuid.uuid4()}, HandlerErrorCode: {code})"
            raise ValueError(f'Resource handler returned message: "{message}" {trailer}')


def _creating(original: Handler) -> Handler:
    def create(logical_id: str, properties: Any, stack_name: str) -> Any:
        _require([_size(properties.get("PolicyDocument", {}))])
        _require(_attachment(role, "") for role in properties.get("Roles") or [])
        return original(logical_id, properties, stack_name)

    return create


def _updating(original: Handler) -> Handler:
    def update(physical_id: str, old: Any, new: Any, *rest: Any) -> Any:
        _require([_size(new.get("PolicyDocument", {}))])
        added = [role for role in new.get("Roles") or [] if role not in (old.get("Roles") or [])]
        _require(_attachment(role, physical_id) for role in added)
        return original(physical_id, old, new, *rest)

    return update
