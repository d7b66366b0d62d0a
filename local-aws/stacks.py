"""CloudFormation's treatment of stacks where ministack differs: installed over ministack once, at start.

- A custom resource whose Create failed stays in the stack with its id, and gets a Delete: on rollback, on delete-stack,
  and on the next update, which replaces it (aws-cdk#5524, empire#918, cloudformation-coverage-roadmap#1814).
- StackStatus and StackStatusReason say what is going on while a function runs, for it asks.
- A rollback that could not delete something keeps it, so that a later delete-stack finds it.
- What fails the stack as a whole (imports, exports) is told by one event of the stack, with its reason.
- Parameters of AWS-specific types must exist, and Rules look them up, in moto.
"""

from __future__ import annotations

import contextvars
import copy
import hashlib
import logging
import re
import sys
from collections.abc import Callable
from typing import Any

import alarms
import authorisation
import autoscaling
import custom_resources
import dynamodb_rules
import ec2_rules
import events
import exports
import express
import failed_creates
import faults
import gone
import group_vpcs  # noqa: F401  (registers its rules)
import iam_rules
import instance_credentials
import instance_profiles
import metadata_options  # noqa: F401  (registers its rules)
import moto_ec2
import nested
import protections
import readings
import refusals
import replacements
import resources
import scheduled_events  # noqa: F401  (registers its rules)
import service_roles
import snapshot_locks  # noqa: F401  (registers its rules)
import ssm_documents
import step_functions
import template_urls
import volumes
from control import knobs, log

logger = logging.getLogger("local_aws.stacks")
Stack = dict[str, Any]

_UPDATABLE_AFTER_FAILURE = ("CREATE_FAILED", "UPDATE_FAILED")
_NOT_UPDATABLE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "UPDATE_ROLLBACK_FAILED")
# The parameters of the operation whose Rules are being evaluated: name -> (type, values).
_rule_parameters: contextvars.ContextVar[dict[str, list[str]]] = contextvars.ContextVar("rule_parameters")


def install() -> None:
    """Put this project's CloudFormation, EC2 and authorisation over ministack's."""
    import ministack.app as app
    from ministack.core import iam_actions
    from ministack.services import autoscaling as ministack_autoscaling
    from ministack.services import ec2, lambda_svc, ssm
    from ministack.services.cloudformation import (  # noqa: F401  (loads every module that _wrap searches)
        changesets,
        custom_resource,
        engine,
        handlers,
        helpers,
        provisioners,
        stacks,
    )

    for module in (ec2_rules, protections, instance_profiles, readings, autoscaling, volumes):
        module.repair_moto()
    dynamodb_rules.repair_ministack()
    instance_credentials.install()
    ec2.handle_request = moto_ec2.handle_request
    ministack_autoscaling.handle_request = autoscaling.handle_request
    ssm.handle_request = ssm_documents.handling(ssm.handle_request)
    _leave_to_authorisation(iam_actions)
    by_arn = ssm_documents.authorised_by_arn(iam_actions.extract_resource_arn)
    iam_actions.extract_resource_arn = authorisation.by_log_stream(by_arn)
    app._dispatch_service_request = _recorded(app, iam_actions)
    lambda_svc._provided_worker_env = _with_log_group(lambda_svc._provided_worker_env)

    custom_resource.invoke_custom_resource = custom_resources.invoke
    provisioners._RESOURCE_HANDLERS.update(resources.handlers(provisioners._RESOURCE_HANDLERS))
    provisioners._RESOURCE_HANDLERS["AWS::SSM::Document"] = ssm_documents.HANDLERS
    for resource_type in ("AWS::EC2::Instance", "AWS::SSM::Document"):
        provisioners._STACK_TAG_PROPERTY[resource_type] = ("Tags", "list")
    iam_rules.install(provisioners._RESOURCE_HANDLERS)
    events.install(provisioners._RESOURCE_HANDLERS)
    alarms.install()
    step_functions.install()
    replacements.install(provisioners)
    _wrap(provisioners, "_replacing_change", replacements.changes_of)
    _wrap(provisioners, "_property_recreation", replacements.told_of)

    _wrap(provisioners, "_physical_name", _unique_to_the_stack)
    _wrap(provisioners, "_provision_resource", _keeping_failed_creates)
    _wrap(provisioners, "_update_resource", _replacing_failed_creates)
    _wrap(provisioners, "_provision_resource", service_roles.creating)
    _wrap(provisioners, "_update_resource", service_roles.updating)
    _wrap(stacks, "_delete_resource", service_roles.deleting)
    _wrap(stacks, "_delete_resource", _in_cleanup_phase)
    _wrap(stacks, "_resolve_stack_outputs", _with_fit_exports)
    _wrap(engine, "_resolve_dynamic_reference", service_roles.resolving)
    _wrap(helpers, "_resolve_document", _in_documents)
    nested.install(provisioners._RESOURCE_HANDLERS["AWS::CloudFormation::Stack"], stacks._delete_stack_async)
    _wrap(stacks, "_deploy_stack_async", _deploying)
    _wrap(stacks, "_roll_back_operation", _rolling_back)
    _wrap(stacks, "_delete_stack_async", _deleting)
    _wrap(stacks, "_create_then_delete_on_failure", lambda _original: _create_or_delete)
    _wrap(engine, "_extract_deps", _with_metadata)
    _wrap(engine, "_resolve_parameters", _existing_parameters)
    _wrap(engine, "_evaluate_conditions", _with_text_functions)
    _wrap(engine, "_evaluate_rules", _with_rule_parameters)
    _wrap(engine, "_rule_account_records", lambda _original: _rule_records)
    _wrap(engine, "_rule_attribute", lambda _original: _rule_attribute)
    _wrap(stacks, "_add_event", _worded_as_aws_does)
    _wrap_action(handlers, "DescribeStacks", _naming_parents)
    _wrap_action(handlers, "DescribeStackResources", failed_creates.describing)
    _wrap_action(handlers, "DeleteStack", _keeping_exports_in_use)
    _wrap_action(handlers, "ListImports", lambda _original: exports.list_imports)
    _wrap_action(handlers, "CreateChangeSet", _refusing_unfit_stacks)
    _wrap_action(handlers, "UpdateStack", _updating_failed_stacks)
    for action in ("UpdateStack", "ExecuteChangeSet"):
        _wrap_action(handlers, action, _updating_failed_stacks_without_rollback)
    service_roles.install(handlers._ACTION_HANDLERS)
    express.install(handlers._ACTION_HANDLERS)


def _wrap(home: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    """Replace a function of ministack's CloudFormation in every module of it that imported the name."""
    original = getattr(home, name)
    replacement = wrapper(original)
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("ministack.services.cloudformation") and vars(module).get(name) is original:
            setattr(module, name, replacement)


def _wrap_action(handlers: Any, action: str, wrapper: Callable[[Any], Any]) -> None:
    handlers._ACTION_HANDLERS[action] = wrapper(handlers._ACTION_HANDLERS[action])


def _stack(stack_name: str) -> Stack:
    from ministack.services.cloudformation import _stacks

    return _stacks[stack_name]


def _event(stack: Stack, status: str, reason: str = "") -> None:
    from ministack.services.cloudformation.stacks import _add_event

    name, stack_id = stack["StackName"], stack["StackId"]
    _add_event(stack_id, name, name, "AWS::CloudFormation::Stack", status, reason, stack_id)


def _resource_event(stack: Stack, logical_id: str, resource_type: str, status: str, physical_id: str) -> None:
    from ministack.services.cloudformation.stacks import _add_event

    _add_event(stack["StackId"], stack["StackName"], logical_id, resource_type, status, physical_id=physical_id)


# --- API calls --------------------------------------------------------------------------------------------------------


def _leave_to_authorisation(iam_actions: Any) -> None:
    """ministack verifies the signature of an EC2 or Auto Scaling call; `authorisation` says what the caller may do."""
    plain = iam_actions.extract_iam_action

    def extract(service: str, *arguments: Any, **keywords: Any) -> str | None:
        return None if service in ("ec2", "autoscaling") else plain(service, *arguments, **keywords)

    extract.plain = plain  # type: ignore[attr-defined]
    iam_actions.extract_iam_action = extract


def _recorded(app: Any, iam_actions: Any) -> Callable[..., Any]:
    """Every AWS API call goes into the log of calls, refused ones too."""
    import json
    from urllib.parse import parse_qsl

    from ministack.core.iam_evaluator import request_caller_arn
    from ministack.core.router import detect_service

    dispatch = app._dispatch_service_request

    def parameters(headers: dict[str, str], body: bytes, query: dict[str, list[str]]) -> dict[str, Any]:
        if "x-amz-target" in headers:
            return dict(json.loads(body or b"{}"))
        if "x-www-form-urlencoded" in headers.get("content-type", ""):
            form = dict(parse_qsl(body.decode(), keep_blank_values=True))
            return {key: value for key, value in form.items() if key not in ("Action", "Version")}
        return {key: values[-1] for key, values in query.items()}

    async def recorded(
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        query: dict[str, list[str]],
        request_id: str,
    ) -> Any:
        routing = app._routing_params(method, path, headers, body, query)
        service = detect_service(method, path, headers, routing)
        action = (
            iam_actions.extract_iam_action.plain(service, method, path, headers, body, routing) or f"{method} {path}"
        )
        principal = request_caller_arn(headers, query)
        call = log.arrive(service, action.partition(":")[2] or action, principal, parameters(headers, body, query))
        authorisation.caller.set((headers, query))
        fault, agent = knobs.fault, headers.get("user-agent", "")
        gone.before(call.action, agent)
        if fault and fault.strikes(agent):
            answer = await faults.strike(
                fault.kind, service, action, lambda: dispatch(method, path, headers, body, query, request_id)
            )
        elif (answer := refusals.refusal(service, call.action, agent, call.parameters)) is None:
            answer = await dispatch(method, path, headers, body, query, request_id)
            answer = refusals.unprocessed(call.action, agent, call.parameters, answer)
        call.status = answer[0]
        if call.status >= 400 and isinstance(answer[2], bytes):
            code = re.search(rb'<Code>([^<]*)</Code>|"__type": ?"(?:[^"]*#)?([^"]*)"', answer[2])
            call.error_code = (code[1] or code[2]).decode() if code else None
        events.seen(call, headers, answer[2])
        return answer

    return recorded


def _with_log_group(original: Any) -> Any:
    def environment(config: dict[str, Any], code_dir: str, port: int) -> dict[str, str]:
        """Lambda names the log group, too."""
        found = original(config, code_dir, port)
        default = f"/aws/lambda/{config.get('FunctionName')}"
        group = (config.get("LoggingConfig") or {}).get("LogGroup") or default
        return {**found, "AWS_LAMBDA_LOG_GROUP_NAME": group, "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}

    return environment


# --- Custom resources in the life of a stack --------------------------------------------------------------------------


def _keep_failed(
    stack: Stack, logical_id: str, resource_type: str, properties: Any, failed: custom_resources.Failed
) -> None:
    """A failed Create leaves a resource: its id is what Delete will be sent for."""
    from ministack.core.responses import now_iso

    stack.setdefault("_resources", {})[logical_id] = {
        "PhysicalResourceId": failed.physical_id,
        "ResourceType": resource_type,
        "ResourceStatus": "CREATE_FAILED",
        "ResourceStatusReason": str(failed),
        "Timestamp": now_iso(),
        "LogicalResourceId": logical_id,
        "Properties": properties,
        "Attributes": {},
    }


def _keeping_failed_creates(original: Any) -> Any:
    def provision(resource_type: str, logical_id: str, properties: Any, stack_name: str) -> Any:
        try:
            return original(resource_type, logical_id, properties, stack_name)
        except custom_resources.Failed as failed:
            _keep_failed(_stack(stack_name), logical_id, resource_type, properties, failed)
            raise

    return provision


def _replacing_failed_creates(original: Any) -> Any:
    def update(
        resource_type: str,
        physical_id: str,
        old: Any,
        new: Any,
        stack_name: str,
        logical_id: str,
        attributes: Any = None,
    ) -> Any:
        from ministack.services.cloudformation import provisioners

        stack = _stack(stack_name)
        record = stack["_resources"].get(logical_id, {})
        if replacements.takes_back(stack, resource_type, old, new):
            return physical_id, attributes or {}
        replacements.check(stack, resource_type, old, new)
        if not custom_resources.is_custom(resource_type):
            return original(resource_type, physical_id, old, new, stack_name, logical_id, attributes)
        if record.get("ResourceStatus") == "CREATE_FAILED":
            # A new Create; the order of the old one's Delete is not documented, so tests choose it.
            before = knobs.failed_resource_delete == "before"
            if before:
                provisioners._custom_resource_delete(
                    physical_id, old, stack_name=stack_name, logical_id=logical_id, resource_type=resource_type
                )
            created = provisioners._provision_resource(resource_type, logical_id, new, stack_name)
            # ministack cleans up after a change of the id, and only then.
            if before and created[0] != physical_id:
                stack.setdefault("_deleted_already", []).append(physical_id)
            elif not before and created[0] == physical_id:
                stack.setdefault("_failed_creates", []).append((resource_type, physical_id, old, logical_id))
            return created
        try:
            if record.get("ResourceStatus") == "UPDATE_FAILED":
                # What a failed Update left half done is updated again, even to the same properties.
                return provisioners._custom_resource_update(
                    physical_id, old, new, stack_name, logical_id=logical_id, resource_type=resource_type
                )
            return original(resource_type, physical_id, old, new, stack_name, logical_id, attributes)
        except custom_resources.Failed:
            record.update(ResourceStatus="UPDATE_FAILED", Properties=new)
            raise

    return update


def _in_cleanup_phase(original: Any) -> Any:
    def delete(
        resource_type: str,
        physical_id: str,
        properties: Any,
        stack_name: str,
        logical_id: str,
    ) -> None:
        """An update deletes what it replaced or removed after its success, in a phase of its own."""
        stack = _stack(stack_name)
        if physical_id in stack.get("_deleted_already", []):
            stack["_deleted_already"].remove(physical_id)
            return
        if stack["StackStatus"] == "UPDATE_IN_PROGRESS":
            stack["StackStatus"] = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
            _event(stack, stack["StackStatus"])
        cleaning = stack["StackStatus"] == "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
        if cleaning:
            _resource_event(stack, logical_id, resource_type, "DELETE_IN_PROGRESS", physical_id)
        original(resource_type, physical_id, properties, stack_name, logical_id)
        if cleaning:
            _resource_event(stack, logical_id, resource_type, "DELETE_COMPLETE", physical_id)

    return delete


# --- Stack operations -------------------------------------------------------------------------------------------------


def _deploying(original: Any) -> Any:
    async def deploy(
        stack_name: str,
        stack_id: str,
        template: dict[str, Any],
        parameters: dict[str, Any],
        disable_rollback: bool,
        *arguments: Any,
        **keywords: Any,
    ) -> None:
        stack = _stack(stack_name)
        stack.update(StackStatusReason="User Initiated", _disables_rollback=disable_rollback)
        if not keywords.get("is_update"):
            # ministack keeps the template on success only; a delete after a failed create needs its policies and order.
            stack.update(_template=template, _resolved_params=parameters)
        before, wanted = stack.get("_imports", []), exports.imported(stack, template, parameters)
        if reason := exports.missing(wanted):
            await _fail_as_a_whole(stack, template, parameters, reason, keywords)
            return
        # Until the operation is complete, the stack imports what it did and what it will.
        stack.update(_imports=sorted({*before, *wanted}), _imports_before=before)
        await original(stack_name, stack_id, template, parameters, disable_rollback, *arguments, **keywords)
        if stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            stack["_imports"] = wanted
            exports.forget_removed(stack)
        if stack["StackStatus"] in _UPDATABLE_AFTER_FAILURE:
            _settle_failed(stack, template, parameters)
        elif stack["StackStatus"] == "UPDATE_COMPLETE":
            await _delete_failed_creates(stack)
        if stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            stack["StackStatusReason"] = ""

    return deploy


async def _fail_as_a_whole(
    stack: Stack, template: dict[str, Any], parameters: dict[str, Any], reason: str, keywords: dict[str, Any]
) -> None:
    """Nothing has been done to any resource, so that a failed update leaves the template of before."""
    from ministack.services.cloudformation import stacks

    is_update, previous = keywords.get("is_update", False), keywords.get("previous_stack") or {}
    tags, retain = stack.get("Tags") or [], keywords.get("retain_except_on_create", False)
    operation = stacks._failed_operation(
        is_update,
        previous or None,
        [],
        None,
        None,
        [],
        False,
        template,
        parameters,
        retain,
        tags,
        previous.get("Tags") or [],
    )
    if not stack["_disables_rollback"]:
        stack["_whole_failure"] = reason
        await stacks._roll_back_operation(stack["StackName"], stack["StackId"], stack, operation)
        return
    status = "UPDATE_FAILED" if is_update else "CREATE_FAILED"
    # No resource of it is there, and no update back to the template of before is refused as none.
    kept = previous.get("_template", {**template, "Resources": {}})
    stack.update(StackStatus=status, StackStatusReason=reason, _failed_operation=operation)
    stack["_template"] = {**kept, "Failed": True}
    _event(stack, status, reason)


def _with_fit_exports(original: Any) -> Any:
    def resolve(
        outputs: Any, conditions: Any, found: Any, parameters: Any, mappings: Any, stack_name: str, stack_id: str
    ) -> Any:
        """Exports that may not be, or change, fail the operation once all resources are there."""
        resolved = original(outputs, conditions, found, parameters, mappings, stack_name, stack_id)
        stack = _stack(stack_name)
        if reason := exports.unfit(stack, resolved[1]):
            stack.update(_whole_failure=reason, _untold=reason)
            raise ValueError(reason)
        return resolved

    return resolve


def _in_documents(original: Any) -> Any:
    def resolve(params: dict[str, Any], body_key: str, url_key: str, label: str) -> Any:
        """The URL of a template may be that of a document of Systems Manager, or have the bucket in the host's name."""
        from ministack.services.cloudformation.helpers import _error, _p

        if label == "Template" and not _p(params, body_key):
            url = _p(params, url_key)
            try:
                params = {**params, url_key: [template_urls.as_ministack_has_it(url)]} if url else params
                found = ssm_documents.template(url)
            except ValueError as unfit:
                return None, _error("ValidationError", str(unfit))
            if found is not None:
                # As for objects of S3: that the caller's rights count, and which, is inferred.
                read = authorisation.Check("ssm:GetDocument", url.removeprefix(ssm_documents.URL_SCHEME))
                reason = authorisation.denial(moto_ec2.REGION, *authorisation.caller.get(), read)
                return (None, _error("AccessDenied", reason, 403)) if reason else (found, None)
        return original(params, body_key, url_key, label)

    return resolve


def _keeping_exports_in_use(original: Any) -> Any:
    def delete(params: dict[str, Any]) -> Any:
        from ministack.services.cloudformation import handlers, helpers

        stack = handlers._resolve_stack(helpers._p(params, "StackName"))
        if (
            stack is None
            or stack["StackStatus"] in ("DELETE_IN_PROGRESS", "DELETE_COMPLETE")
            or stack.get("EnableTerminationProtection")
            or (reason := exports.in_use(stack)) is None
        ):
            return original(params)
        stack["StackStatusReason"] = reason
        _event(stack, stack["StackStatus"], reason)
        return helpers._xml(200, "DeleteStackResponse", "")

    return delete


def _settle_failed(stack: Stack, template: dict[str, Any], parameters: dict[str, Any]) -> None:
    """A failed stack (disable_rollback) keeps the attempted template, less what did not come to be.

    So the next change set always has a change for what failed, also when it goes back to the values before.
    """
    logical_id = (stack.get("_failed_operation") or {}).get("failed_logical_id")
    done = {
        name
        for name, record in stack["_resources"].items()
        if record.get("ResourceStatus") not in ("CREATE_FAILED", "UPDATE_FAILED")
    }
    kept = copy.deepcopy(template)
    kept["Resources"] = {name: body for name, body in kept["Resources"].items() if name in done and name != logical_id}
    if stack.pop("_whole_failure", None):
        # Its outputs were refused.
        kept.pop("Outputs", None)
    stack.update(_template=kept, _attempted_template=template, _resolved_params=parameters)
    if logical_id:
        verb = "create" if logical_id not in stack["_resources"] or _was_created(stack, logical_id) else "update"
        stack["StackStatusReason"] = f"The following resource(s) failed to {verb}: [{logical_id}]. "


def _was_created(stack: Stack, logical_id: str) -> bool:
    return stack["_resources"][logical_id].get("ResourceStatus") == "CREATE_FAILED"


async def _delete_failed_creates(stack: Stack) -> None:
    """The Delete of a failed Create whose replacement has the same id, in the clean-up phase."""
    from ministack.core.concurrency import run_reentrant
    from ministack.services.cloudformation import _stack_events, stacks

    failed = stack.pop("_failed_creates", [])
    if not failed:
        return
    # The update is not over yet: take back the event that said so.
    _stack_events[stack["StackId"]].pop()
    stack["StackStatus"] = "UPDATE_IN_PROGRESS"
    for resource_type, physical_id, properties, logical_id in failed:
        try:
            await run_reentrant(
                stacks._delete_resource, resource_type, physical_id, properties, stack["StackName"], logical_id
            )
        except Exception as error:  # noqa: BLE001  (a clean-up that fails does not fail the update)
            logger.warning("clean-up of %s failed: %s", logical_id, error)
    stack["StackStatus"] = "UPDATE_COMPLETE"
    _event(stack, "UPDATE_COMPLETE")


def _rolling_back(original: Any) -> Any:
    async def roll_back(
        stack_name: str, stack_id: str, stack: Stack, operation: dict[str, Any], reason_override: str = ""
    ) -> None:
        failed = operation.get("failed_logical_id")
        records = stack.get("_resources", {})
        if failed in records and _was_created(stack, failed) and failed not in operation["created"]:
            operation["created"].append(failed)
        verb = "update" if operation.get("failed_update") is not None else "create"
        reason = reason_override
        whole = stack.pop("_whole_failure", None)
        if whole and not reason:
            reason = whole if operation["is_update"] else f"{whole}. Rollback requested by user."
        if failed and not reason:
            reason = f"The following resource(s) failed to {verb}: [{failed}]. Rollback requested by user."
        stack["StackStatusReason"] = reason
        if stack.pop("_delete_on_failure", False):
            # OnFailure=DELETE goes straight to the deletion.
            stack["_create_failure"] = reason.replace("Rollback requested", "Delete requested")
            return
        before = dict(records)
        await original(stack_name, stack_id, stack, operation, reason)
        if stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE":
            stack["_imports"] = stack.get("_imports_before", [])
        if stack["StackStatus"] == "ROLLBACK_FAILED":
            for logical_id in stack.get("_rollback_failed", {}):
                stack["_resources"][logical_id] = {**before[logical_id], "ResourceStatus": "DELETE_FAILED"}

    return roll_back


async def _create_or_delete(stack_name: str, stack_id: str, deployment: Any) -> None:
    """`OnFailure=DELETE`: a create that fails is deleted, with a reason that says so."""
    from ministack.services.cloudformation import stacks

    stack = _stack(stack_name)
    stack["_delete_on_failure"] = True
    await deployment
    stack.pop("_delete_on_failure", None)
    if "_create_failure" in stack:
        await stacks._delete_stack_async(stack_name, stack_id)


def _deleting(original: Any) -> Any:
    async def delete(stack_name: str, stack_id: str, *arguments: Any, **keywords: Any) -> None:
        stack = _stack(stack_name)
        stack["StackStatusReason"] = stack.pop("_create_failure", "User Initiated")
        await original(stack_name, stack_id, *arguments, **keywords)

    return delete


def _naming_parents(original: Any) -> Any:
    def describe(params: dict[str, Any]) -> Any:
        """DescribeStacks names the parent and the root of a nested stack, the service role and the express mode."""
        from ministack.services.cloudformation import _stacks

        status, headers, body = original(params)
        for stack in _stacks.values():
            own = f"<StackId>{stack['StackId']}</StackId>"
            more = service_roles.described(stack) + express.described(stack)
            if "ParentId" in stack:
                more += f"<ParentId>{stack['ParentId']}</ParentId><RootId>{stack['RootId']}</RootId>"
            body = body.replace(own.encode(), (own + more).encode())
        return status, headers, body

    return describe


def _worded_as_aws_does(original: Any) -> Any:
    def add(
        stack_id: str,
        stack_name: str,
        logical_id: str,
        resource_type: str,
        status: str,
        reason: str = "",
        physical_id: str = "",
        *arguments: Any,
        **keywords: Any,
    ) -> None:
        """A failed resource keeps its id in the event, and the stack's own event lists what failed."""
        stack = _stack(stack_name)
        if status.endswith("_FAILED") and stack.pop("_untold", None) == reason:
            return
        if not reason and express.completes_early(stack, resource_type, status):
            reason = express.COMPLETED
        failed = re.match(r"Resource (\w+) failed: ", reason)
        if resource_type == "AWS::CloudFormation::Stack" and failed:
            reason = f"The following resource(s) failed to {status.partition('_')[0].lower()}: [{failed[1]}]. "
        elif status.endswith("_FAILED") and not physical_id:
            record = stack["_resources"].get(logical_id, {})
            physical_id = record.get("PhysicalResourceId", "")
        if physical_id != stack_id:
            failed_creates.note(stack_id, logical_id, resource_type, status, reason)
        original(stack_id, stack_name, logical_id, resource_type, status, reason, physical_id, *arguments, **keywords)

    return add


def _refusing_unfit_stacks(original: Any) -> Any:
    def create_change_set(params: dict[str, Any]) -> Any:
        from ministack.services.cloudformation.handlers import _resolve_stack
        from ministack.services.cloudformation.helpers import _error, _p

        stack = _resolve_stack(_p(params, "StackName"))
        status = (stack or {}).get("StackStatus", "")
        update = _p(params, "ChangeSetType", "UPDATE") == "UPDATE"
        if update and (
            status in _NOT_UPDATABLE or (status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS")
        ):
            # CreateChangeSet, API reference: the stack must be in a state that can be updated
            message = f"Stack:{stack['StackId']} is in {status} state and can not be updated."
            return _error("ValidationError", message)
        if status in _UPDATABLE_AFTER_FAILURE and _p(params, "UsePreviousTemplate", "false").lower() == "true":
            # The template of the operation before, with what failed in it, which is still to be made.
            kept = {name: value for name, value in params.items() if name != "UsePreviousTemplate"}
            params = {**kept, "TemplateBody": [stack["_template_body"]]}
        return original(params)

    return create_change_set


def _updating_failed_stacks_without_rollback(original: Any) -> Any:
    def update(params: dict[str, Any]) -> Any:
        from ministack.services.cloudformation.handlers import _resolve_stack
        from ministack.services.cloudformation.helpers import _error, _p

        # A change set may be named by its ARN alone.
        stack = _resolve_stack(_p(params, "StackName")) if _p(params, "StackName") else None
        status = (stack or {}).get("StackStatus", "")
        if status in _UPDATABLE_AFTER_FAILURE and _p(params, "DisableRollback", "false").lower() != "true":
            # aws/aws-cli#6368, ansible-collections/amazon.aws#1655, for UpdateStack. That a change set is refused, too,
            # and only when it is executed, is inferred.
            message = (
                f"This stack is currently in a non-terminal [{status}] state. To update the stack from this state, "
                "please use the disable-rollback parameter with update-stack API. To rollback to the last known good "
                "state, use the rollback-stack API"
            )
            return _error("ValidationError", message)
        return original(params)

    return update


def _updating_failed_stacks(original: Any) -> Any:
    def update_stack(params: dict[str, Any]) -> Any:
        """A failed stack can be updated ("Stack failure options"); ministack allows it for change sets only."""
        from ministack.services.cloudformation.handlers import _resolve_stack
        from ministack.services.cloudformation.helpers import _p

        stack = _resolve_stack(_p(params, "StackName"))
        status = (stack or {}).get("StackStatus", "")
        if status not in _UPDATABLE_AFTER_FAILURE:
            return original(params)
        stack["StackStatus"] = "UPDATE_COMPLETE"
        if _p(params, "UsePreviousTemplate", "false").lower() == "true":
            # The template of the operation before, with what failed in it.
            stack["_template"] = stack.get("_attempted_template", stack["_template"])
        answer = original(params)
        if stack["StackStatus"] == "UPDATE_COMPLETE":
            stack["StackStatus"] = status
        return answer

    return update_stack


def _unique_to_the_stack(original: Any) -> Any:
    def name(stack_name: str, logical_id: str, **options: Any) -> str:
        """ministack derives names from the stack's name, so a successor would take over what was retained."""
        from ministack.services.cloudformation import _stacks

        found = original(stack_name, logical_id, **options)
        stack_id = _stacks.get(stack_name, {}).get("StackId", "")
        suffix = hashlib.sha256(f"{stack_id}{found}".encode()).hexdigest()[:13]
        return found[: -len(suffix)] + (suffix if options.get("lowercase") else suffix.upper())

    return name


def _with_metadata(original: Any) -> Any:
    def dependencies(definition: dict[str, Any], names: set[str]) -> set[str]:
        """A reference in Metadata is a dependency too; ministack looks at Properties and DependsOn."""
        from ministack.services.cloudformation.engine import _intrinsic_references

        found = {name for name, _attribute in _intrinsic_references(definition.get("Metadata", {}))}
        return set(original(definition, names)) | (found & names)

    return dependencies


# --- Parameters and rules ---------------------------------------------------------------------------------------------


def _values(parameter_type: str, value: str) -> tuple[str, list[str]]:
    if parameter_type.startswith("List<"):
        return parameter_type[len("List<") : -1], [item.strip() for item in value.split(",")] if value else []
    return parameter_type, [value]


def _with_text_functions(original: Any) -> Any:
    """Conditions may compare what Fn::Select, Fn::Split and Fn::Join make: aws-cloudformation/cfn-lint#876, #881."""
    from ministack.services.cloudformation import engine

    def evaluate(template: dict[str, Any], params: dict[str, Any]) -> dict[str, bool]:
        def literal(value: Any) -> Any:
            if isinstance(value, list):
                return [literal(item) for item in value]
            if isinstance(value, dict) and value.keys() & {"Fn::Select", "Fn::Join"}:
                return engine._resolve_refs(value, {}, params, {}, template.get("Mappings", {}), "", "")
            return {key: literal(item) for key, item in value.items()} if isinstance(value, dict) else value

        return original({**template, "Conditions": literal(template.get("Conditions", {}))}, params)

    return evaluate


def _existing_parameters(original: Any) -> Any:
    def resolve(template: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        """Values of AWS-specific types must exist in the account and region."""
        for parameter in (template.get("Parameters") or {}).values():
            service_roles.require_lookup(_values(parameter.get("Type", "String"), "")[0])
        resolved = original(template, *arguments, **keywords)
        for name, parameter in resolved.items():
            parameter_type, values = _values(parameter.get("Type", "String"), parameter["Value"])
            known = resources.existing(parameter_type)
            for value in values if known is not None else []:
                if value not in known:
                    raise ValueError(
                        f"Parameter validation failed: parameter value {value} for parameter name {name} does not exist"
                    )
        return resolved

    return resolve


def _with_rule_parameters(original: Any) -> Any:
    def evaluate(template: dict[str, Any], parameters: dict[str, Any], conditions: dict[str, Any]) -> Any:
        by_type: dict[str, list[str]] = {}
        for name, parameter in parameters.items():
            declared = (template.get("Parameters") or {}).get(name, {}).get("Type", "String")
            parameter_type, values = _values(declared, parameter["Value"])
            by_type.setdefault(parameter_type, []).extend(values)
        token = _rule_parameters.set(by_type)
        try:
            return original(template, parameters, conditions)
        finally:
            _rule_parameters.reset(token)

    return evaluate


def _rule_records(parameter_type: str) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Fn::RefAll and Fn::ValueOfAll range over the template's parameters of the type.

    "Rule functions": `Fn::EachMemberEquals: [Fn::ValueOfAll: [AWS::EC2::VPC::Id, Tags.Department], IT]` is true "if the
    Department tag for all parameters of type AWS::EC2::VPC::Id have a value of IT".
    """
    from ministack.services.cloudformation.engine import _RuleUnsupported

    known = resources.existing(parameter_type)
    if known is None:
        raise _RuleUnsupported(f"Fn::RefAll / Fn::ValueOfAll over {parameter_type} is not supported")
    return {value: known.get(value, {}) for value in _rule_parameters.get().get(parameter_type, [])}, {}


def _rule_attribute(parameter_type: str, resource_id: str, attribute: str) -> str:
    if attribute.startswith("Tags."):
        tags = moto_ec2.backend().tags.get(resource_id, {})
        return str(tags.get(attribute.removeprefix("Tags."), ""))
    return str((resources.existing(parameter_type) or {}).get(resource_id, {}).get(attribute, ""))
