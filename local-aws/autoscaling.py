"""Auto Scaling of the local AWS: moto's implementation over the same instances, with the service's refusals before it.

`handle_request` replaces ministack's Auto Scaling and serves the endpoint. ValidationError is what the service says to
almost everything; the sources below are for the texts and the circumstances.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup, autoscaling_backends
from moto.autoscaling.responses import AutoScalingResponse
from moto.server import create_backend_app

import moto_ec2
from authorisation import Check, denial
from control import knobs
from ec2_rules import Params, Refusal, numbered

MAX_STANDBY_INSTANCES = 20  # EnterStandby and ExitStandby, API reference: "You can specify up to 20 instances"
MAX_DESCRIBED_INSTANCES = 50  # DescribeAutoScalingInstances, API reference: InstanceIds and MaxRecords, at most 50
_NAMESPACE = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
_SCOPE = f"AWS4-HMAC-SHA256 Credential=local/20260101/{moto_ec2.REGION}/autoscaling/aws4_request"
# Instances on their way into or out of Standby: id -> when they are there, and the state that they are in then.
_moving: dict[str, tuple[float, str]] = {}


def backend() -> AutoScalingBackend:
    """moto's Auto Scaling state for the one account and region there is."""
    return autoscaling_backends[moto_ec2.ACCOUNT][moto_ec2.REGION]


@functools.cache
def _moto() -> Any:
    return create_backend_app("autoscaling").test_client()


async def handle_request(
    _method: str, _path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
) -> tuple[int, dict[str, str], bytes]:
    """ministack's service interface: authorise the caller, refuse what Auto Scaling refuses, let moto do the rest."""
    params = {key: values[-1] for key, values in query.items()}
    params.update(parse_qsl(body.decode(), keep_blank_values=True))
    try:
        with moto_ec2.lock:
            _arrive()
            _authorise(headers, query, params)
            _check(params)
            response = _moto().post("/", data=params, headers={"Authorization": _SCOPE})
            if response.status_code == 200:
                _after(params)
        status, answer = response.status_code, response.data
    except Refusal as refusal:
        status, answer = refusal.status, _error_xml(refusal)
    return status, {"Content-Type": "text/xml"}, answer


def _error_xml(refusal: Refusal) -> bytes:
    return (
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type><Code>{refusal.code}</Code>'
        f"<Message>{escape(refusal.message)}</Message></Error><RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    ).encode()


def _authorise(headers: dict[str, str], query: dict[str, list[str]], params: Params) -> None:
    """Describe calls are on `*`, the others on the group. A group that does not exist is left to the call."""
    action = params.get("Action", "")
    name = params.get("AutoScalingGroupName", "")
    group = backend().autoscaling_groups.get(name)
    resource, keys = "*", {}
    if group is not None and not action.startswith("Describe"):
        # Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2 Auto Scaling"
        resource = group.arn
        for tag in group.tags:
            for prefix in ("aws", "autoscaling"):
                keys[f"{prefix}:resourcetag/{tag['Key']}".lower()] = tag["Value"]
    elif action == "CreateAutoScalingGroup":
        account, region = moto_ec2.ACCOUNT, moto_ec2.REGION
        resource = f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{name}"
    elif name and not action.startswith("Describe"):
        return
    if (reason := denial(moto_ec2.REGION, headers, query, Check(f"autoscaling:{action}", resource, keys))) is not None:
        raise Refusal("AccessDenied", reason, 403)


# --- Refusals ---------------------------------------------------------------------------------------------------------


def _check(params: Params) -> None:
    action = params.get("Action", "")
    if action in ("EnterStandby", "ExitStandby"):
        _check_standby(action, params)
    elif action == "DescribeAutoScalingInstances":
        _check_number(_instance_ids(params), MAX_DESCRIBED_INSTANCES)


def _instance_ids(params: Params) -> list[str]:
    return numbered(params, r"InstanceIds\.member")


def _check_number(instance_ids: list[str], limit: int) -> None:
    if len(instance_ids) > limit:
        # keikoproj/upgrade-manager#301
        raise _invalid(
            f"1 validation error detected: Value '[{', '.join(instance_ids)}]' at 'instanceIds' failed to satisfy "
            f"constraint: Member must have length less than or equal to {limit}"
        )


def _check_standby(action: str, params: Params) -> None:
    instance_ids = _instance_ids(params)
    _check_number(instance_ids, MAX_STANDBY_INSTANCES)
    group = backend().autoscaling_groups.get(params.get("AutoScalingGroupName", ""))
    if group is None:
        # Callers match this text, "AutoScalingGroup name not found"
        raise _invalid(
            f"AutoScalingGroup name not found - AutoScalingGroup '{params.get('AutoScalingGroupName')}' not found"
        )
    wanted = "InService" if action == "EnterStandby" else "Standby"
    for instance_id in instance_ids:
        state = _state(group, instance_id)
        if state is None:
            # The text of DetachInstances: hashicorp/terraform-provider-aws#35071
            raise _invalid(f"The instance {instance_id} is not part of Auto Scaling group {group.name}.")
        if state.lifecycle_state != wanted:
            # EnterStandby: aws-samples/aws-codedeploy-samples#50, keikoproj/upgrade-manager#324; ExitStandby inferred
            raise _invalid(f"The instance {instance_id} is not in {wanted}.")
    if action == "EnterStandby" and params.get("ShouldDecrementDesiredCapacity") == "true":
        # EnterStandby, API reference: as long as the desired capacity stays at the minimum or above
        _check_sizes(group, -len(instance_ids), "To place into standby")
    elif action == "ExitStandby":
        # ExitStandby, API reference: the desired capacity is incremented. That it may not pass the maximum is what
        # AttachInstances says of itself; here it is an inference, and so is the text.
        _check_sizes(group, len(instance_ids), "To move out of standby")


def _check_sizes(group: Any, change: int, intent: str) -> None:
    if group.min_size <= group.desired_capacity + change <= group.max_size:
        return
    # Seen for EnterStandby with min-size=1, max-size=1, desired-size=1
    raise _invalid(
        f"AutoScalingGroup {group.name} has min-size={group.min_size}, max-size={group.max_size}, and "
        f"desired-size={group.desired_capacity}. {intent} {abs(change)} instance{'s' if abs(change) > 1 else ''}, "
        "please update the AutoScalingGroup sizes appropriately."
    )


def _invalid(message: str) -> Refusal:
    return Refusal("ValidationError", message)


# --- What follows a call ----------------------------------------------------------------------------------------------


def _after(params: Params) -> None:
    action = params.get("Action", "")
    if action in ("EnterStandby", "ExitStandby") and knobs.standby_seconds > 0:
        # EC2 Auto Scaling user guide, "Amazon EC2 Auto Scaling instance lifecycle"
        passing, there = ("EnteringStandby", "Standby") if action == "EnterStandby" else ("Pending", "InService")
        for instance_id in _instance_ids(params):
            _moving[instance_id] = (time.monotonic() + knobs.standby_seconds, there)
            _set_state(instance_id, passing)
    elif action == "SetInstanceHealth" and params.get("HealthStatus") == "Unhealthy":
        _replace_unhealthy(params.get("InstanceId", ""))


def _arrive() -> None:
    for instance_id, (at, there) in list(_moving.items()):
        if time.monotonic() >= at:
            del _moving[instance_id]
            _set_state(instance_id, there)


def _replace_unhealthy(instance_id: str) -> None:
    """A health check that failed ends an instance, protected or not, unless it is in Standby.

    EC2 Auto Scaling user guide, "Temporarily remove instances from your Auto Scaling group": no termination "as part of
    its health checks" in Standby; EC2 user guide, "Change instance termination protection": no protection from it else.
    """
    if any(state.lifecycle_state == "InService" for state in backend().describe_auto_scaling_instances([instance_id])):
        backend().ec2_backend.terminate_instances([instance_id])
        backend().notify_terminate_instances([instance_id])


def _state(group: Any, instance_id: str) -> Any:
    return next((state for state in group.instance_states if state.instance.id == instance_id), None)


def _set_state(instance_id: str, lifecycle_state: str) -> None:
    for state in backend().describe_auto_scaling_instances([instance_id]):
        state.lifecycle_state = lifecycle_state


# --- Repairs of moto's model ------------------------------------------------------------------------------------------


def repair_moto() -> None:
    """Make moto scale and page as Auto Scaling does. Call once, before the first request."""
    FakeAutoScalingGroup.set_desired_capacity = _beside_standby(FakeAutoScalingGroup.set_desired_capacity)
    described = AutoScalingResponse.describe_auto_scaling_instances
    AutoScalingResponse.describe_auto_scaling_instances = _paged(described)


def _beside_standby(original: Callable[[Any, int | None], None]) -> Callable[[Any, int | None], None]:
    def set_desired_capacity(group: Any, capacity: int | None) -> None:
        """Scaling in spares the instances in Standby; moto may end them first."""
        aside = [state for state in group.instance_states if state.lifecycle_state != "InService"]
        group.instance_states = [state for state in group.instance_states if state.lifecycle_state == "InService"]
        try:
            original(group, capacity)
        finally:
            group.instance_states = [*group.instance_states, *aside]

    return set_desired_capacity


def _paged(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def describe(response: Any) -> Any:
        """moto answers everything at once; the service cuts at MaxRecords, or at 50."""
        result = original(response)
        size = min(response._get_int_param("MaxRecords") or MAX_DESCRIBED_INSTANCES, MAX_DESCRIBED_INSTANCES)
        start = int(response._get_param("NextToken") or 0)
        found = result.result["AutoScalingInstances"]
        result.result["AutoScalingInstances"] = found[start : start + size]
        result.result["NextToken"] = str(start + size) if start + size < len(found) else None
        return result

    return describe
