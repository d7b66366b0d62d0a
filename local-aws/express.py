"""Express mode of stacks (DeploymentConfig), which ministack does not know.

Rollback is disabled unless the call enables it (CloudFormation user guide, "express mode"). A stack that failed in
this mode takes only express operations, and no RollbackStack, until it is complete (aws/aws-cdk-cli#1739, for
UpdateStack and CreateChangeSet; that DeleteStack and ExecuteChangeSet are refused, too, is inferred). That only express
stacks show a DeploymentConfig is inferred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Stack = dict[str, Any]
Params = dict[str, Any]
Action = Callable[[Params], Any]
COMPLETED = "Resource operation completed using Express Mode. It may continue becoming available in the background."


def install(handlers: dict[str, Action]) -> None:
    """Put this over ministack's actions, outside of everything that looks at DisableRollback."""
    for action in ("CreateStack", "UpdateStack", "DeleteStack", "CreateChangeSet", "ExecuteChangeSet"):
        handlers[action] = _in_its_mode(action, handlers[action])
    handlers["RollbackStack"] = _not_rolled_back(handlers["RollbackStack"])


def is_express(stack: Stack) -> bool:
    return stack.get("_mode") == "EXPRESS"


def completes_early(stack: Stack, resource_type: str, status: str) -> bool:
    """Whether an event says so (aws/aws-cdk-cli#1689). Custom resources are waited for (user guide)."""
    is_custom = resource_type.startswith(("Custom::", "AWS::CloudFormation::"))
    return is_express(stack) and not is_custom and status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE")


def described(stack: Stack) -> str:
    """The element of DescribeStacks."""
    if not is_express(stack):
        return ""
    disabled = str(stack.get("_disables_rollback", True)).lower()
    return f"<DeploymentConfig><Mode>EXPRESS</Mode><DisableRollback>{disabled}</DisableRollback></DeploymentConfig>"


def _named(params: Params) -> tuple[Stack | None, Stack | None]:
    """The stack and the change set that a call names."""
    from ministack.services.cloudformation import handlers
    from ministack.services.cloudformation.changesets import _find_change_set
    from ministack.services.cloudformation.helpers import _p

    name, change_set_name = _p(params, "StackName"), _p(params, "ChangeSetName")
    change_set = _find_change_set(change_set_name, name.partition("/")[2].partition("/")[0] or name)[1]
    return handlers._resolve_stack(name or (change_set or {}).get("StackName", "")), change_set


def _failed(stack: Stack | None) -> bool:
    return stack is not None and is_express(stack) and stack["StackStatus"].endswith("_FAILED")


def _in_its_mode(action: str, original: Action) -> Action:
    def call(params: Params) -> Any:
        from ministack.services.cloudformation.helpers import _error, _p, enum_problems, validation_error_message

        if problems := enum_problems(params, "DeploymentConfig.Mode", "deploymentConfig.mode", ("STANDARD", "EXPRESS")):
            return _error("ValidationError", validation_error_message(problems))
        stack, change_set = _named(params)
        config = {
            "Mode": _p(params, "DeploymentConfig.Mode", "STANDARD"),
            "DisableRollback": _p(params, "DeploymentConfig.DisableRollback"),
        }
        if action == "ExecuteChangeSet":
            config = (change_set or {}).get("_deployment", config)
        if action != "CreateStack" and _failed(stack) and config["Mode"] != "EXPRESS":
            message = (
                f"This stack is in a {stack['StackStatus']} state from a previous operation that used EXPRESS "
                "deployment mode with disable-rollback. Follow-up operations must use the same DeploymentConfig "
                "(mode=EXPRESS) until the stack reaches a *_COMPLETE state."
            )
            return _error("ValidationError", message)
        disables = config["DisableRollback"] or ("true" if config["Mode"] == "EXPRESS" else "")
        decided = {"DisableRollback", "OnFailure"} & params.keys() or (change_set or {}).get("OnStackFailure")
        if disables and not decided and action not in ("DeleteStack", "CreateChangeSet"):
            params = {**params, "DisableRollback": [disables]}
        answer = original(params)
        if answer[0] == 200:
            stack, change_set = _named(params)
            if action == "CreateChangeSet" and change_set is not None:
                change_set["_deployment"] = config
            elif stack is not None:
                stack["_mode"] = config["Mode"]
        return answer

    return call


def _not_rolled_back(original: Action) -> Action:
    def rollback(params: Params) -> Any:
        from ministack.services.cloudformation.helpers import _error

        if _failed(_named(params)[0]):
            message = (
                "RollbackStack is not supported for stacks that were last updated using EXPRESS deployment mode and "
                "are in a failed state"
            )
            return _error("ValidationError", message)
        return original(params)

    return rollback
