"""Service roles: what CloudFormation may do for a stack that was given a RoleARN.

The role is remembered and used for every later operation (CreateStack, API reference). Whoever names one needs
iam:PassRole for it (IAM user guide, "Grant a user permissions to pass a role"); who uses a stack that has one does not.
A role that is gone, or does not trust CloudFormation, refuses the call (aws-amplify/amplify-backend#2325,
brentley/ecsworkshop#31). Names that are no ARN: glassechidna/stackit#21. The name of the session:
aws/serverless-application-model#448.

What the role needs for each resource is in `role_actions`. ministack makes no calls for resources, so all of it is
asked before any of it is done. Without a service role nothing is asked: the caller's rights are not looked at.
"""

from __future__ import annotations

import contextvars
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import authorisation
import role_actions
from authorisation import Check
from moto_ec2 import ACCOUNT, REGION

Stack = dict[str, Any]
Params = dict[str, Any]
Action = Callable[[Params], Any]

_SERVICE = "cloudformation.amazonaws.com"
_ACTIONS = (
    "CreateStack",
    "UpdateStack",
    "DeleteStack",
    "CreateChangeSet",
    "ExecuteChangeSet",
    "RollbackStack",
    "ContinueUpdateRollback",
)
# The role of the operation that is running. Tasks and threads inherit it.
_acting: contextvars.ContextVar[str | None] = contextvars.ContextVar("acting", default=None)


# --- Calls that name a role -------------------------------------------------------------------------------------------


def install(handlers: dict[str, Action]) -> None:
    for action in _ACTIONS:
        handlers[action] = _with_role(action, handlers[action])


def described(stack: Stack) -> str:
    """The element of DescribeStacks."""
    return f"<RoleARN>{stack['RoleARN']}</RoleARN>" if "RoleARN" in stack else ""


def _with_role(action: str, original: Action) -> Action:
    def call(params: Params) -> Any:
        from ministack.services.cloudformation import handlers
        from ministack.services.cloudformation.changesets import _find_change_set
        from ministack.services.cloudformation.helpers import _error, _p

        change_set = _find_change_set(_p(params, "ChangeSetName"), _name(params))[1]
        name = _p(params, "StackName") or (change_set or {}).get("StackName", "")
        stack = handlers._resolve_stack(name)
        if stack is not None and (action == "CreateStack" or stack["StackStatus"] == "DELETE_COMPLETE"):
            stack = None
        given = _p(params, "RoleARN") or (change_set or {}).get("RoleARN", "")
        if action != "ExecuteChangeSet" and given and (refusal := _not_passed(given)):
            return _error(*refusal)
        role = given or (stack or {}).get("RoleARN")
        if role and not _assumable(role):
            return _error("ValidationError", f"Role {role} is invalid or cannot be assumed")
        token = _acting.set(role)
        try:
            answer = original(params)
        finally:
            _acting.reset(token)
        if given and answer[0] == 200:
            if action == "CreateChangeSet":
                _find_change_set(_p(params, "ChangeSetName"), _name(params))[1]["RoleARN"] = given
            elif (stack := handlers._resolve_stack(name)) is not None:
                stack["RoleARN"] = given
        return answer

    return call


def _name(params: Params) -> str:
    """Change sets are kept by the name of the stack; a call may have its ARN."""
    from ministack.services.cloudformation.helpers import _p

    name = _p(params, "StackName")
    return name.partition("/")[2].partition("/")[0] or name


def _not_passed(role: str) -> tuple[Any, ...] | None:
    if not re.fullmatch(rf"arn:aws:iam::{ACCOUNT}:role/\S+", role):
        return "ValidationError", f"{role} is not a valid RoleARN"
    passed = Check("iam:PassRole", role, {"iam:passedtoservice": _SERVICE})
    reason = authorisation.denial(REGION, *authorisation.caller.get(), passed)
    return ("AccessDenied", reason, 403) if reason else None


def _assumable(role: str) -> bool:
    from ministack.core.iam_evaluator import _service_principal_matches, evaluate_trust_policy
    from ministack.services import iam

    record = iam._roles.get(role.rpartition("/")[2])
    if record is None or record["Arn"] != role:
        return False
    policy = record["AssumeRolePolicyDocument"]
    policy = json.loads(policy) if isinstance(policy, str) else policy
    statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    # ministack lets a service in where it calls as root only: what names CloudFormation is judged as if it named all.
    named = [{**s, "Principal": "*"} for s in statements if _service_principal_matches(s.get("Principal"), _SERVICE)]
    return bool(evaluate_trust_policy({"Statement": named}, _SERVICE))


# --- What the role is asked for ---------------------------------------------------------------------------------------


def require(check: Check) -> None:
    """Raise what fails the resource, unless the role of the running operation may do this."""
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import iam

    role = _acting.get()
    if role is None:
        return
    name = role.rpartition("/")[2]
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/AWSCloudFormation"
    context = iam_evaluator.EvalContext(
        principal_arn=principal,
        principal_type="AssumedRole",
        principal_account=ACCOUNT,
        action=check.action,
        resource_arn=check.resource,
        region=REGION,
        service_context={"aws:tagkeys": None, **{key.lower(): value for key, value in check.keys.items()}},
    )
    boundary = iam_evaluator._permissions_boundary(iam._roles, name, ACCOUNT)
    decision = iam_evaluator.evaluate(context, iam_evaluator._gather_role_policies(name, ACCOUNT), *boundary).decision
    if decision != "Allow":
        explicit = decision == "Deny"
        reason = iam_actions.identity_denial_message(check.action, principal, check.resource, explicit)
        service = check.action.partition(":")[0].capitalize()
        raise PermissionError(f"{reason} (Service: {service}, Status Code: 403)")


def creating(original: Any) -> Any:
    def provision(resource_type: str, logical_id: str, properties: Any, stack_name: str) -> Any:
        _require_all(resource_type, "create", lambda checks: checks.create(properties))
        return original(resource_type, logical_id, properties, stack_name)

    return provision


def updating(original: Any) -> Any:
    def update(resource_type: str, physical_id: str, old: Any, new: Any, *arguments: Any) -> Any:
        from ministack.services.cloudformation import provisioners

        # A replacement is a create.
        if old != new and not provisioners._replacing_change(resource_type, old, new):
            _require_all(resource_type, "update", lambda checks: checks.update(physical_id, old, new))
        return original(resource_type, physical_id, old, new, *arguments)

    return update


def deleting(original: Any) -> Any:
    def delete(resource_type: str, physical_id: str, properties: Any, *arguments: Any) -> None:
        _require_all(resource_type, "delete", lambda checks: checks.delete(physical_id, properties))
        original(resource_type, physical_id, properties, *arguments)

    return delete


def resolving(original: Any) -> Any:
    def resolve(literal: str) -> str:
        """A dynamic reference: `{{resolve:ssm:name:version}}`."""
        service, _, body = literal.removeprefix("{{resolve:").removesuffix("}}").partition(":")
        if service.startswith("ssm"):
            require(Check("ssm:GetParameters", role_actions.parameter_arn(body.partition(":")[0])))
        return str(original(literal))

    return resolve


# AWS-specific types are looked up with the rights of the operation (yugabyte/yugabyte-db#4336); that these are the
# service role's is inferred.
_LOOKUPS = {
    "AWS::EC2::Image::Id": "ec2:DescribeImages",
    "AWS::EC2::Instance::Id": "ec2:DescribeInstances",
    "AWS::EC2::KeyPair::KeyName": "ec2:DescribeKeyPairs",
    "AWS::EC2::SecurityGroup::Id": "ec2:DescribeSecurityGroups",
    "AWS::EC2::Subnet::Id": "ec2:DescribeSubnets",
    "AWS::EC2::VPC::Id": "ec2:DescribeVpcs",
}


def require_lookup(parameter_type: str) -> None:
    """Raise what refuses a stack whose role may not look its parameters up."""
    action = "ssm:GetParameters" if parameter_type.startswith("AWS::SSM::") else _LOOKUPS.get(parameter_type)
    if action is None:
        return
    try:
        require(Check(action, "*"))
    except PermissionError:
        raise ValueError(f"AccessDenied. User doesn't have permission to call {action}") from None


def _require_all(resource_type: str, operation: str, writes: Callable[[role_actions.Writes], Iterator[Check]]) -> None:
    if _acting.get() is None or resource_type.startswith(("Custom::", "AWS::CloudFormation::")):
        # A custom resource asks for lambda:InvokeFunction where the function is invoked.
        return
    known = role_actions.WRITES.get(resource_type)
    if known is None:
        raise PermissionError(f"The local AWS does not know what a service role needs for {resource_type}.")
    for check in writes(known):
        require(check)
    for action in role_actions.READS[resource_type, operation]:
        require(Check(action, "*"))
