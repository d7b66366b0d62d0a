"""The rules EC2 enforces and moto does not: each refusal with EC2's error code and its source.

`before` refuses, or answers itself what moto gets wrong; `after` notes what a later call depends on (stale reads, the
snapshot rate); `repair_moto` mends moto's view of interfaces and terminated instances once, at start. The rules of
`protections` and `instance_profiles` register themselves here with `rule` and `afterwards`.
"API errors" below is the EC2 API reference page "Error codes for the Amazon EC2 API".
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instances import Instance
from moto.ec2.models.security_groups import SecurityGroupBackend

from control import Json, knobs, route

Params = dict[str, str]
# Called with moto's backend and the parameters; may return an answer, and then moto is not asked.
Rule = Callable[[Any, Params], bytes | None]
# Called with moto's backend, the parameters and moto's answer, once the call was carried out.
Afterwards = Callable[[Any, Params, bytes], None]

MAX_GROUPS_PER_INTERFACE = 16  # VPC quotas: security groups per network interface, at most 16
MAX_FILTER_VALUES = 200  # API errors: FilterLimitExceeded
TERMINAL = ("shutting-down", "terminated")


@dataclass
class Refusal(Exception):
    """A call that EC2 refuses."""

    code: str
    message: str
    status: int = 400


@dataclass
class _Stale:
    """What reads still show of an interface whose groups were changed a moment ago."""

    groups: list[Any]
    reads: int


_rules: dict[str, list[Rule]] = {}
_afterwards: dict[str, list[Afterwards]] = {}
_stale: dict[str, _Stale] = {}
_shutting_down: set[str] = set()
_last_snapshot: dict[str, float] = {}
_is_read = False
# The VPCs that a group was associated with, beside the one that it was made in, and the state of each: `group_vpcs`.
associated_vpcs: dict[str, dict[str, str]] = {}


def numbered(params: Params, name: str) -> list[str]:
    """The values of `Name.1`, `Name.2`, …: how EC2's query protocol spells a list."""
    found = [(int(m[1]), value) for key, value in params.items() if (m := re.fullmatch(rf"{name}\.(\d+)", key))]
    return [value for _, value in sorted(found)]


def rule(*actions: str) -> Callable[[Rule], Rule]:
    """Register a rule of these calls. Rules run in the order of registration."""

    def register(check: Rule) -> Rule:
        for action in actions:
            _rules.setdefault(action, []).append(check)
        return check

    return register


def afterwards(*actions: str) -> Callable[[Afterwards], Afterwards]:
    """Register what follows when one of these calls was carried out."""

    def register(effect: Afterwards) -> Afterwards:
        for action in actions:
            _afterwards.setdefault(action, []).append(effect)
        return effect

    return register


def before(backend: Any, action: str, params: Params) -> bytes | None:
    """Refuse what EC2 refuses. Returns an answer only where moto must not be asked."""
    for check in (_filter_limit, _malformed_ids, _reserved_tags, *_rules.get(action, [])):
        if (answer := check(backend, params)) is not None:
            return answer
    groups = numbered(params, "SecurityGroupId")
    if action == "ModifyNetworkInterfaceAttribute" and groups and params.get("DryRun") != "true":
        _remember(backend.enis[params["NetworkInterfaceId"]], groups)
    return None


def after(backend: Any, action: str, params: Params, answer: bytes) -> None:
    """Note what later calls depend on: called after moto carried the call out."""
    if action in ("CreateSnapshot", "CreateSnapshots"):
        for volume_id in _volumes_to_snapshot(backend, params):
            _last_snapshot[volume_id] = time.monotonic()
    elif action in ("DescribeInstances", "DescribeNetworkInterfaces"):
        for interface_id in [i for i in _stale if i.encode() in answer]:
            _stale[interface_id].reads -= 1
            if _stale[interface_id].reads <= 0:
                del _stale[interface_id]
    elif action == "TerminateInstances":
        _shutting_down.difference_update(numbered(params, "InstanceId"))
    for effect in _afterwards.get(action, []):
        effect(backend, params, answer)


@contextlib.contextmanager
def reading(action: str) -> Iterator[None]:
    """While a Describe call runs, interfaces show what an eventually consistent read shows."""
    global _is_read
    _is_read = action.startswith("Describe")
    try:
        yield
    finally:
        _is_read = False


# --- Rules for every call ---------------------------------------------------------------------------------------------


def _filter_limit(_backend: Any, params: Params) -> None:
    # API errors: FilterLimitExceeded, "maximum number of filter values specified on a single call"
    if sum(bool(re.fullmatch(r"Filter\.\d+\.Value\.\d+", key)) for key in params) > MAX_FILTER_VALUES:
        raise Refusal(
            "FilterLimitExceeded",
            f"The maximum number of filter values specified on a single call is {MAX_FILTER_VALUES}",
        )


_ID_PARAMETERS = {
    "InstanceId": ("i", "InvalidInstanceID.Malformed"),
    "NetworkInterfaceId": ("eni", "InvalidNetworkInterfaceId.Malformed"),
    "GroupId": ("sg", "InvalidGroupId.Malformed"),
    "SecurityGroupId": ("sg", "InvalidGroupId.Malformed"),
}


def _malformed_ids(_backend: Any, params: Params) -> None:
    # API errors: InvalidInstanceID.Malformed, InvalidNetworkInterfaceId.Malformed, InvalidGroupId.Malformed
    for key, value in params.items():
        prefix, code = _ID_PARAMETERS.get(re.sub(r"\.\d+$", "", key), (None, ""))
        if prefix is not None and not re.fullmatch(rf"{prefix}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", value):
            raise Refusal(code, f'Invalid id: "{value}" (expecting "{prefix}-...")')


def _reserved_tags(_backend: Any, params: Params) -> None:
    # EC2 user guide, "Tag restrictions": the aws: prefix is reserved for AWS
    for key, value in params.items():
        if re.fullmatch(r"(TagSpecification\.\d+\.)?Tag\.\d+\.Key", key) and value.lower().startswith("aws:"):
            raise Refusal(
                "InvalidParameterValue",
                f"Value ( {value} ) for parameter key is invalid. Tag keys starting with 'aws:' are reserved for "
                "internal use",
            )


# --- Rules of one call ------------------------------------------------------------------------------------------------


@rule("ModifyNetworkInterfaceAttribute")
def _modify_network_interface(backend: Any, params: Params) -> None:
    interface = backend.enis.get(params.get("NetworkInterfaceId", ""))
    if interface is None:
        # API errors: InvalidNetworkInterfaceID.NotFound
        raise Refusal(
            "InvalidNetworkInterfaceID.NotFound",
            f"The networkInterface ID '{params.get('NetworkInterfaceId')}' does not exist",
        )
    if interface.requester_managed:
        # EC2 user guide, "Requester-managed network interfaces": you can't modify them; cloud-custodian#3406
        raise Refusal("AuthFailure", "You do not have permission to access the specified resource.")
    if interface.instance is not None and state_of(interface.instance) in TERMINAL:
        # API errors: IncorrectInstanceState
        raise Refusal(
            "IncorrectInstanceState",
            f"Unable to modify the network interface while the instance is in '{state_of(interface.instance)}' state",
        )
    check_groups(backend, numbered(params, "SecurityGroupId"), interface.subnet.vpc_id)


def check_groups(backend: Any, group_ids: list[str], vpc_id: str) -> None:
    if len(group_ids) > MAX_GROUPS_PER_INTERFACE:
        # API errors: SecurityGroupsPerInterfaceLimitExceeded
        raise Refusal(
            "SecurityGroupsPerInterfaceLimitExceeded",
            f"The maximum number of security groups per interface is {MAX_GROUPS_PER_INTERFACE}",
        )
    for group_id in group_ids:
        group = backend.get_security_group_from_id(group_id)
        if group is None:
            # API errors: InvalidGroup.NotFound
            raise Refusal("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        if vpc_id not in (group.vpc_id, *associated_vpcs.get(group_id, {})):
            # Same code for a group of another VPC: kubernetes-sigs/cluster-api-provider-aws#3943
            raise Refusal(
                "InvalidGroup.NotFound", "You have specified two resources that belong to different networks."
            )


@rule("DeleteSecurityGroup")
def _delete_group(backend: Any, params: Params) -> None:
    # DeleteSecurityGroup, API reference: a group in use or referenced by another group fails with DependencyViolation
    group_id = params.get("GroupId", "")
    in_use = any(group.id == group_id for interface in backend.enis.values() for group in interface._group_set)
    referenced = any(
        rule.source_group.get("GroupId") == group_id
        for groups in backend.groups.values()
        for group in groups.values()
        if group.id != group_id
        for rule in (*group.ingress_rules, *group.egress_rules)
    )
    if in_use or referenced:
        raise Refusal("DependencyViolation", f"resource {group_id} has a dependent object")


@rule("CreateSecurityGroup")
def _create_group(backend: Any, params: Params) -> None:
    vpc_id = params.get("VpcId")
    if vpc_id and vpc_id not in backend.vpcs:
        # API errors: InvalidVpcID.NotFound
        raise Refusal("InvalidVpcID.NotFound", f"The vpc ID '{vpc_id}' does not exist")


@rule("RunInstances")
def _run_instances(backend: Any, params: Params) -> None:
    """Takes the image from the launch template, resolving `resolve:ssm:` at launch, and refuses an unknown one."""
    if not params.get("ImageId") and (image := _template_image(backend, params)):
        params["ImageId"] = image
    image_id = params.get("ImageId", "")
    if image_id.startswith("resolve:ssm:"):
        params["ImageId"] = image_id = _resolve_parameter(image_id.removeprefix("resolve:ssm:"))
    if image_id not in backend.amis:
        # API errors: InvalidAMIID.NotFound
        raise Refusal("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    for key, value in params.items():
        if re.search(r"SecurityGroupId\.\d+$", key) and backend.get_security_group_from_id(value) is None:
            # API errors: InvalidGroup.NotFound
            raise Refusal("InvalidGroup.NotFound", f"The security group '{value}' does not exist")


@rule("CreateLaunchTemplate", "CreateLaunchTemplateVersion")
def _create_launch_template(_backend: Any, params: Params) -> None:
    """Looks at the parameter that its image is to be resolved from (aws/aws-cdk#26712)."""
    image_id = params.get("LaunchTemplateData.ImageId", "")
    if image_id.startswith("resolve:ssm:"):
        _resolve_parameter(image_id.removeprefix("resolve:ssm:"))


@rule("CreateSnapshot", "CreateSnapshots")
def _create_snapshots(backend: Any, params: Params) -> None:
    if (instance_id := params.get("InstanceSpecification.InstanceId")) is not None:
        instance = instance_by_id(backend, instance_id)
        if state_of(instance) in TERMINAL:
            # API errors: IncorrectInstanceState (that CreateSnapshots uses this code here is an inference)
            raise Refusal("IncorrectInstanceState", f"The instance '{instance_id}' is '{state_of(instance)}'")
    for volume_id in _volumes_to_snapshot(backend, params):
        if time.monotonic() - _last_snapshot.get(volume_id, float("-inf")) < knobs.snapshot_seconds:
            # API errors: SnapshotCreationPerVolumeRateExceeded, wait 15 seconds between snapshots of a volume
            raise Refusal(
                "SnapshotCreationPerVolumeRateExceeded",
                "The maximum per volume CreateSnapshot request rate has been exceeded. Use an increasing or variable "
                "sleep interval between requests.",
            )


# --- What the rules ask of moto ---------------------------------------------------------------------------------------


def instance_by_id(backend: Any, instance_id: str) -> Any:
    for instance in backend.all_instances():
        if instance.id == instance_id:
            return instance
    # API errors: InvalidInstanceID.NotFound
    raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")


def state_of(instance: Any) -> str:
    return "shutting-down" if instance.id in _shutting_down else instance.state


def _volumes_to_snapshot(backend: Any, params: Params) -> list[str]:
    if "VolumeId" in params:
        return [params["VolumeId"]]
    instance = instance_by_id(backend, params["InstanceSpecification.InstanceId"])
    without_root = params.get("InstanceSpecification.ExcludeBootVolume") == "true"
    return [
        device.volume_id
        for name, device in instance.get_block_device_mapping
        if not (without_root and name == instance.root_device_name)
    ]


def _template_image(backend: Any, params: Params) -> str | None:
    template_id = params.get("LaunchTemplate.LaunchTemplateId")
    name = params.get("LaunchTemplate.LaunchTemplateName")
    for template in backend.launch_templates.values():
        if template.id == template_id or template.name == name:
            return template.get_version(params.get("LaunchTemplate.Version", "$Default")).image_id
    return None


def _resolve_parameter(name: str) -> str:
    from ministack.services import ssm

    value = ssm.resolve_parameter_value(name)
    if value is None:
        # RunInstances with a Systems Manager parameter that is missing: code from API errors, InvalidParameterValue
        raise Refusal("InvalidParameterValue", f"Unable to resolve the Systems Manager parameter {name}")
    if ssm._parameters[name.partition(":")[0]].get("DataType") != "aws:ec2:image":
        # aws/aws-cdk#26712, kent8192/reinhardt-web#2023
        supported = "The following parameter data types are supported: aws:ec2:image"
        raise Refusal("SsmInvalidParameter", f"Unsupported data type. {supported}")
    return str(value)


def _remember(interface: Any, new_groups: list[str]) -> None:
    current = list(interface._group_set)
    if knobs.stale_reads > 0 and [group.id for group in current] != new_groups:
        _stale[interface.id] = _Stale(current, knobs.stale_reads)


# --- Repairs of moto's model ------------------------------------------------------------------------------------------


def repair_moto() -> None:
    """Make moto show interfaces, groups and terminated instances as EC2 does. Call once, before the first request."""
    NetworkInterface.group_set = property(_shown_groups)
    plain_filter = NetworkInterface.get_filter_value
    shown = {
        "group-id": lambda interface: [group.id for group in interface.group_set],
        "addresses.private-ip-address": lambda interface: [
            address["PrivateIpAddress"] for address in interface.private_ip_addresses
        ],
        "addresses.association.public-ip": lambda interface: [interface.public_ip] if interface.public_ip else [],
        "ipv6-addresses.ipv6-address": lambda interface: list(interface.ipv6_addresses),
    }
    NetworkInterface.get_filter_value = lambda interface, name, method=None: (
        shown[name](interface) if name in shown else plain_filter(interface, name, method)
    )
    Instance.security_groups = property(_instance_groups, _set_instance_groups)
    for name, absent in (("vpc_id", None), ("subnet_id", None), ("network_interfaces", [])):
        setattr(Instance, name, property(_unless_terminated(getattr(Instance, name), absent)))
    for name, source in (
        ("private_ip", "private_ip_address"),
        ("private_ip_address", "private_ip_address"),
        ("public_ip", "public_ip"),
        ("public_ip_address", "public_ip"),
    ):
        setattr(Instance, name, property(_of_primary(source)))
    Instance.private_dns_name = property(_unless_terminated(Instance.private_dns_name, ""))
    Instance.terminate = _terminate(Instance.terminate)
    Instance.instance_state = property(_shown_state)
    SecurityGroupBackend._add_source_group = _with_foreign_groups(SecurityGroupBackend._add_source_group)
    TaggedEC2Resource.get_tags = _tags


def _shown_groups(interface: Any) -> list[Any]:
    """An interface's own groups; moto adds the instance's. A fresh change stays hidden for some reads."""
    stale = _stale.get(interface.id) if _is_read else None
    return stale.groups if stale is not None else interface._group_set


def _instance_groups(instance: Any) -> list[Any]:
    """An instance's groups are those of its primary interface."""
    primary = getattr(instance, "nics", {}).get(0)
    return primary.group_set if primary is not None else instance.__dict__.get("launch_groups", [])


def _set_instance_groups(instance: Any, groups: list[Any]) -> None:
    instance.__dict__["launch_groups"] = groups
    if primary := getattr(instance, "nics", {}).get(0):
        _remember(primary, [group.id for group in groups])
        primary._group_set = list(groups)


def _unless_terminated(original: property, absent: Any) -> Callable[[Any], Any]:
    return lambda instance: absent if instance.state == "terminated" else original.fget(instance)  # type: ignore[misc]


def _of_primary(attribute: str) -> Callable[[Any], Any]:
    return lambda instance: getattr(instance.nics.get(0), attribute, None)


def _shown_state(instance: Any) -> Any:
    if instance.id not in _shutting_down:
        return instance._state
    return {"Name": "shutting-down", "Code": 32}


def _terminate(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def terminate(instance: Any) -> Any:
        """The primary interface goes with its instance, an attached one is detached unless it says otherwise."""
        previous = original(instance)
        backend = instance.ec2_backend
        for index, interface in list(instance.nics.items()):
            if index == 0 or interface.delete_on_termination:
                backend.enis.pop(interface.id, None)
            else:
                instance.detach_eni(interface)
        instance.nics = {}
        return previous

    return terminate


def _with_foreign_groups(original: Callable[..., Any]) -> Callable[..., Any]:
    def add(backend: Any, groups: list[dict[str, Any]] | None, vpc_id: str | None) -> list[dict[str, Any]]:
        """A rule may name a group of another account, in a peered VPC; moto wants to find every group here."""
        own: list[dict[str, Any]] = []
        foreign: list[dict[str, Any]] = []
        for group in groups or []:
            (own if group.get("UserId", backend.account_id) == backend.account_id else foreign).append(group)
        return [*original(backend, own, vpc_id), *foreign]

    return add


def _tags(resource: Any) -> list[dict[str, str]]:
    """moto searches the tags of every resource by regular expression, which takes seconds for 204 instances."""
    found = resource.ec2_backend.tags.get(resource.id, {})
    return [{"resource_id": resource.id, "key": key, "value": value} for key, value in found.items()]


# --- Control ----------------------------------------------------------------------------------------------------------


@route("PUT", "interface")
def _set_interface(body: Json, _query: dict[str, list[str]]) -> Json:
    from moto_ec2 import backend
    from readings import is_managed, set_managed

    interface = backend().enis[body["id"]]
    if "managed" in body:
        set_managed(interface, bool(body["managed"]))
    interface.requester_managed = bool(body.get("requester_managed", interface.requester_managed))
    interface.interface_type = str(body.get("type", interface.interface_type))
    backend().create_tags([interface.id], dict(body.get("tags", {})))
    return {
        "id": interface.id,
        "requester_managed": interface.requester_managed,
        "type": interface.interface_type,
        "managed": is_managed(interface.id),
        "tags": backend().tags.get(interface.id, {}),
    }


@route("PUT", "instance")
def _set_instance(body: Json, _query: dict[str, list[str]]) -> Json:
    from moto_ec2 import backend
    from readings import is_managed, set_managed

    instance_id = body["id"]
    if body.get("state") == "shutting-down":
        _shutting_down.add(instance_id)
    elif "state" in body:
        _shutting_down.discard(instance_id)
    if "managed" in body:
        set_managed(backend().get_instance(instance_id), bool(body["managed"]))
    state = "shutting-down" if instance_id in _shutting_down else None
    return {"id": instance_id, "state": state, "managed": is_managed(instance_id)}
