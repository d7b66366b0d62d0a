"""EventBridge's rules and their targets, where ministack is more lenient, and what EC2 and CloudTrail put on the bus.

A rule is judged when it is made, a target is called only where the function's policy lets this rule in, and the call is
asynchronous, with Lambda's retries. With the clock off, as at the start, a schedule fires when a test asks for it.
EC2's events reach the bus when a test asks for it (`PUT /_local/events`): an account may have no trail.
"""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
from typing import Any

import alarms
import cloudtrail
from control import Json, knobs, log, route

ACCOUNT = "123456789012"
REGION = "us-east-1"
MOST_PATTERN = 2048  # "Amazon EventBridge quotas": event pattern size
_SINGULAR, _PLURAL = ("minute", "hour", "day"), ("minutes", "hours", "days")
# The rule for which a target is being called, and whether a function is called asynchronously.
_rule: contextvars.ContextVar[Json] = contextvars.ContextVar("rule")
_asynchronous: contextvars.ContextVar[bool] = contextvars.ContextVar("asynchronous", default=False)
logger = logging.getLogger("local_aws.events")


class Refused(ValueError):
    """EventBridge takes no such rule."""


def install(provisioners: dict[str, dict[str, Any]]) -> None:
    """Put this over ministack's EventBridge and over AWS::Events::Rule. Call once, at start."""
    from ministack.services import eventbridge, lambda_svc
    from moto.ec2.models.instances import Instance

    Instance.terminate = _announcing(Instance.terminate, "shutting-down", "terminated")
    Instance.stop = _announcing(Instance.stop, "stopping", "stopped")
    eventbridge._invoke_target = _naming_rule(eventbridge._invoke_target)
    eventbridge._dispatch_to_lambda = _call_function
    eventbridge._tick_scheduled_rules = _with_clock(eventbridge._tick_scheduled_rules)
    eventbridge._put_rule = _judging(eventbridge._put_rule)
    eventbridge._delete_rule = _with_targets(eventbridge._delete_rule)
    lambda_svc._execute_function = _counting(lambda_svc._execute_function)
    lambda_svc.invoke_async_with_retry = _starting(lambda_svc.invoke_async_with_retry)
    rule = provisioners["AWS::Events::Rule"]
    rule.update(create=_creating(rule["create"]), update=_updating(rule["update"]), delete=_deleting(rule["delete"]))


# --- Rules ------------------------------------------------------------------------------------------------------------


def _judge(schedule: str, pattern: Any) -> None:
    from ministack.services import eventbridge

    if not schedule and not pattern:
        raise Refused("Parameter(s) EventPattern or ScheduleExpression must be specified.")
    if schedule and not _is_schedule(schedule):
        raise Refused("Parameter ScheduleExpression is not valid.")
    text = json.dumps(pattern) if isinstance(pattern, dict) else pattern
    if text and (reason := eventbridge._event_pattern_error(text)):
        raise Refused(f"Event pattern is not valid. Reason: {reason}")
    if text and len(json.dumps(json.loads(text), separators=(",", ":"))) > MOST_PATTERN:
        raise Refused(f"Event pattern is longer than {MOST_PATTERN} characters")


def _is_schedule(text: str) -> bool:
    """EventBridge user guide, "Creating a rule that runs on a schedule": the unit is singular for 1 only."""
    from ministack.services import eventbridge

    if text.startswith("rate(") and text.endswith(")"):
        value, _, unit = text[5:-1].partition(" ")
        return value.isdigit() and int(value) > 0 and unit in (_SINGULAR if int(value) == 1 else _PLURAL)
    return bool(eventbridge._validate_schedule_expression(text))


def _judging(original: Any) -> Any:
    def put(data: Json) -> Any:
        from ministack.core.responses import error_response_json

        try:
            _judge(data.get("ScheduleExpression", ""), data.get("EventPattern", ""))
        except Refused as refused:
            code = "InvalidEventPatternException" if "pattern" in str(refused) else "ValidationException"
            return error_response_json(code, str(refused), 400)
        return original(data)

    return put


def _with_targets(original: Any) -> Any:
    def delete(data: Json) -> Any:
        """getmoto/moto#5056, tried on a real account."""
        from ministack.core.responses import error_response_json
        from ministack.services import eventbridge

        key = eventbridge._rule_key(data.get("Name"), data.get("EventBusName", "default"))
        if eventbridge._targets.get(key):
            return error_response_json("ValidationException", "Rule can't be deleted since it has targets.", 400)
        return original(data)

    return delete


def _creating(original: Any) -> Any:
    def create(logical_id: str, properties: Json, stack_name: str) -> Any:
        _judge(properties.get("ScheduleExpression", ""), properties.get("EventPattern", ""))
        return original(logical_id, properties, stack_name)

    return create


def _updating(original: Any) -> Any:
    def update(physical_id: str, old: Json, new: Json, *arguments: Any, **keywords: Any) -> Any:
        _judge(new.get("ScheduleExpression", ""), new.get("EventPattern", ""))
        return original(physical_id, old, new, *arguments, **keywords)

    return update


def _deleting(original: Any) -> Any:
    def delete(physical_id: str, properties: Json) -> None:
        """CloudFormation removes the targets of its template. That any other one is in the way is inferred."""
        from ministack.services import eventbridge

        own = {target["Id"] for target in properties.get("Targets", [])}
        key = eventbridge._rule_key(physical_id, properties.get("EventBusName", "default"))
        if any(target["Id"] not in own for target in eventbridge._targets.get(key) or []):
            raise ValueError("Rule can't be deleted since it has targets. (Service: EventBridge, Status Code: 400)")
        original(physical_id, properties)

    return delete


# --- Targets ----------------------------------------------------------------------------------------------------------


def _naming_rule(original: Any) -> Any:
    def invoke(target: Json, event: Json, rule: Json, view: Any = None) -> None:
        token = _rule.set(rule)
        try:
            original(target, event, rule, view)
        finally:
            _rule.reset(token)

    return invoke


def _call_function(arn: str, payload: str) -> None:
    """Asynchronous, with retries; refused where the function's policy does not let this rule in.

    EventBridge user guide, "Using resource-based policies": without the permission the rule fires, and calls nothing.
    """
    from ministack.services import lambda_svc

    rule = _rule.get()
    function, configuration, name = lambda_svc._get_func_record_for_ref(arn)
    call = {"n": len(log.invocations) + 1, "rule": rule["Name"], "function": name, "status": "running"}
    call.update(input=json.loads(payload), answer=None)
    log.invocations.append(call)
    if function is None or configuration is None:
        call["status"] = "not found"
    elif not _lets_in(arn, rule["Arn"]):
        call["status"] = "not permitted"
    else:
        record = lambda_svc._execution_record_for_config(function, configuration)
        threading.Thread(target=_run, args=(record, call), daemon=True).start()


def _lets_in(function: str, rule: str) -> bool:
    from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
    from ministack.services import lambda_svc

    policy = lambda_svc.function_policy_for_arn(function)
    context = EvalContext(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action="lambda:InvokeFunction",
        resource_arn=function,
        region=REGION,
        service_context={"aws:sourcearn": rule, "aws:sourceaccount": ACCOUNT},
    )
    found = policy and evaluate_resource_policy(policy[0], context, service="events.amazonaws.com")
    return bool(found and found.decision == "Allow")


def _run(record: Json, call: Json) -> None:
    """Lambda developer guide, "Asynchronous invocation": twice more after an error, here without a pause."""
    from ministack.services import lambda_svc

    _asynchronous.set(True)
    for _attempt in range(3):
        result = lambda_svc._execute_function_with_config_scope(record, call["input"])
        call["answer"] = result.get("body")
        if not result.get("error"):
            call["status"] = "done"
            return
    call["status"] = "failed"


def _starting(original: Any) -> Any:
    def start(function: Json, event: Json) -> None:
        token = _asynchronous.set(True)
        try:
            original(function, event)
        finally:
            _asynchronous.reset(token)

    return start


def _counting(original: Any) -> Any:
    def execute(function: Json, event: Json) -> Json:
        """AWS/Lambda's Invocations and Errors of asynchronous calls; ministack counts the synchronous ones only."""
        from ministack.services import lambda_svc

        result = original(function, event)
        if _asynchronous.get():
            name = (function.get("config") or function).get("FunctionName", "unknown")
            lambda_svc._emit_lambda_metrics(name, 0.0, bool(result.get("error")), False)
        return dict(result)

    return execute


# --- Time, and what is on the bus -------------------------------------------------------------------------------------


def _with_clock(original: Any) -> Any:
    def tick() -> None:
        if knobs.clock:
            original()

    return tick


def _fire(rule: Json, key: str) -> None:
    from ministack.services import eventbridge

    event = _event("aws.events", "Scheduled Event", {}, [rule["Arn"]])
    view = eventbridge._pattern_event_view(event)
    for target in eventbridge._targets.get(key) or []:
        eventbridge._invoke_target(target, event, rule, view)


def _event(source: str, detail_type: str, detail: Json, resources: list[str]) -> Json:
    from ministack.core.responses import new_uuid

    return {
        "EventId": new_uuid(),
        "Source": source,
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
        "EventBusName": "default",
        "Time": int(time.time()),
        "Resources": resources,
        "Account": ACCOUNT,
        "Region": REGION,
    }


def put(source: str, detail_type: str, detail: Json, resources: list[str]) -> None:
    """An event of a service onto the default bus."""
    from ministack.services import eventbridge

    log.events.append({"n": len(log.events) + 1, "source": source, "detail-type": detail_type, "detail": detail})
    eventbridge._dispatch_event(_event(source, detail_type, detail, resources))


def seen(call: Any, headers: dict[str, str], body: bytes) -> None:
    """A call that was answered: CloudTrail's event of it, if a trail is there."""
    if knobs.trail and (record := cloudtrail.record(call, headers, body)) is not None:
        put(f"aws.{call.service}", "AWS API Call via CloudTrail", record, [])


def _announcing(original: Any, *states: str) -> Any:
    def change(instance: Any, *arguments: Any, **keywords: Any) -> Any:
        before = instance.state
        result = original(instance, *arguments, **keywords)
        if instance.state != before:
            for state in states:
                state_changed(instance.id, state)
        return result

    return change


def state_changed(instance_id: str, state: str) -> None:
    """EC2 user guide, "EC2 Instance State-change Notification": it needs no trail."""
    if knobs.states:
        arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{instance_id}"
        detail = {"instance-id": instance_id, "state": state}
        put("aws.ec2", "EC2 Instance State-change Notification", detail, [arn])


@route("PUT", "schedule")
def _schedule(body: Json, _query: dict[str, list[str]]) -> Json:
    from ministack.services import eventbridge

    stack, fired = body.get("stack", ""), []
    for key, rule in list(eventbridge._rules.items()):
        if rule.get("State") == "ENABLED" and rule.get("ScheduleExpression") and rule["Name"].startswith(f"{stack}-"):
            _fire(rule, key)
            fired.append(rule["Name"])
    return {"fired": fired}


@route("GET", "invocations")
def _invocations(_body: Json, query: dict[str, list[str]]) -> list[Json]:
    return log.invocations[int(query.get("since", ["0"])[0]) :]


@route("PUT", "events")
def _events(body: Json, _query: dict[str, list[str]]) -> Json:
    knobs.trail, knobs.states = bool(body.get("trail", False)), bool(body.get("states", False))
    return {"trail": knobs.trail, "states": knobs.states}


@route("GET", "events")
def _on_bus(_body: Json, query: dict[str, list[str]]) -> list[Json]:
    return log.events[int(query.get("since", ["0"])[0]) :]


@route("PUT", "event")
def _put_event(body: Json, _query: dict[str, list[str]]) -> Json:
    since = len(log.invocations)
    put(body["source"], body["detail-type"], body["detail"], body.get("resources", []))
    return {"called": [call["rule"] for call in log.invocations[since:]]}


@route("PUT", "clock")
def _clock(body: Json, _query: dict[str, list[str]]) -> Json:
    knobs.clock = bool(body["on"])
    if knobs.clock and not _ticking.is_set():
        _ticking.set()
        threading.Thread(target=_each_minute, daemon=True).start()
    return {"on": knobs.clock}


_ticking = threading.Event()


def _each_minute() -> None:
    while True:
        time.sleep(60)
        alarms.tick()
