"""What protects an instance from being ended: its attributes, and the calls that they refuse.

moto stores most of the attributes, but it takes every value for every instance, several at once, and its group handler
takes the calls that no other handler knows. So ModifyInstanceAttribute is answered here, where a protection changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from moto.ec2.models.instances import InstanceBackend

from ec2_rules import TERMINAL, Params, Refusal, afterwards, check_groups, instance_by_id, numbered, rule, state_of

# ModifyInstanceAttribute names an attribute by a parameter of its own, or by `Attribute` and `Value`.
_LISTS = {"BlockDeviceMapping": "blockDeviceMapping", "GroupId": "groupSet"}
_FLAGS = {"disableApiTermination": "disable_api_termination", "disableApiStop": "disable_api_stop"}
_SHUTDOWN = "instanceInitiatedShutdownBehavior"


# --- ModifyInstanceAttribute ------------------------------------------------------------------------------------------


@rule("ModifyInstanceAttribute")
def _modify(backend: Any, params: Params) -> bytes | None:
    attributes = _attributes(params)
    if not attributes:
        # ansible-collections/amazon.aws#470
        raise Refusal("InvalidParameterCombination", "No attributes specified.")
    if len(attributes) > 1:
        # "InvalidParameterCombination: Fields for multiple attribute types specified": comment in
        # hashicorp/terraform-provider-aws, internal/service/ec2/ec2_instance.go
        raise Refusal(
            "InvalidParameterCombination", f"Fields for multiple attribute types specified: {', '.join(attributes)}"
        )
    instance = instance_by_id(backend, params.get("InstanceId", ""))
    if state_of(instance) in TERMINAL:
        # API errors: IncorrectInstanceState; cloud-custodian PR#7598 expects it of terminated instances
        raise Refusal("IncorrectInstanceState", f"The instance '{instance.id}' is in the '{state_of(instance)}' state")
    changes = _changes(backend, instance, attributes.pop(), params)
    if changes is None:
        return None
    refuse_dry_run(params)
    for target, name, value in changes:
        setattr(target, name, value)
    return b"<ModifyInstanceAttributeResponse><return>true</return></ModifyInstanceAttributeResponse>"


def _attributes(params: Params) -> set[str]:
    """The attributes that the call changes, in DescribeInstanceAttribute's spelling."""
    found = {name for prefix, name in _LISTS.items() if any(key.startswith(f"{prefix}.") for key in params)}
    found.update(key[0].lower() + key[1:-6] for key in params if re.fullmatch(r"\w+\.Value", key))
    if "Attribute" in params:
        found.add(params["Attribute"])
    return found


def _changes(backend: Any, instance: Any, attribute: str, params: Params) -> list[tuple[Any, str, Any]] | None:
    """Refuses a change that EC2 refuses. Returns what to set in moto's model, or None where moto does that."""
    value = params.get("Value", params.get(f"{attribute[:1].upper()}{attribute[1:]}.Value", ""))
    if attribute in _FLAGS:
        _check_flag(instance, attribute, value)
        return [(instance, _FLAGS[attribute], value == "true")]
    if attribute == _SHUTDOWN:
        _check_shutdown(instance, value)
        return [(instance, "instance_initiated_shutdown_behavior", value)]
    if attribute == "blockDeviceMapping":
        return [(device, "delete_on_termination", flag) for device, flag in _devices(instance, params)]
    if attribute == "groupSet":
        _check_groups(backend, instance, numbered(params, "GroupId"))
    return None


def _check_flag(instance: Any, attribute: str, value: str) -> None:
    if value not in ("true", "false"):
        raise Refusal("InvalidParameterValue", f"Value ({value}) for parameter {attribute} is invalid.")
    if is_spot(instance):
        # cloud-custodian#2083: this code and text for disableApiTermination, on false too. EC2 user guide, "Enable stop
        # protection": "You can't enable stop protection for Spot Instances" (that it is this code is an inference).
        raise Refusal("UnsupportedOperation", f"Modifying '{attribute}' is not supported for spot instances")
    if attribute == "disableApiStop" and instance.root_device_type != "ebs":
        # EC2 user guide, "Enable stop protection": not for instance store-backed instances (the code is an inference)
        raise Refusal(
            "UnsupportedOperation", f"Modifying '{attribute}' is not supported for instance store-backed instances"
        )


def _check_shutdown(instance: Any, value: str) -> None:
    if value not in ("stop", "terminate"):
        raise Refusal("InvalidParameterValue", f"Value ({value}) for parameter {_SHUTDOWN} is invalid.")
    if instance.root_device_type != "ebs":
        # RunInstances answers so: mitchellh/vagrant-aws#131, hashicorp/terraform#2887 (that this call does is inferred)
        raise Refusal("InvalidParameterCombination", f"The attribute {_SHUTDOWN} can only be used for elastic images.")
    if value == "stop" and is_spot(instance) and instance.spot_type == "one-time":
        # Only one of a persistent request can stop; that EC2 refuses, and with cloud-custodian#2083's code, is inferred
        raise Refusal("UnsupportedOperation", f"Modifying '{_SHUTDOWN}' is not supported for spot instances")


def _devices(instance: Any, params: Params) -> list[tuple[Any, bool]]:
    """The devices that the call names, each with the DeleteOnTermination that it gets."""
    found = []
    for key, name in params.items():
        if (match := re.fullmatch(r"(BlockDeviceMapping\.\d+)\.DeviceName", key)) is None:
            continue
        device = dict(instance.get_block_device_mapping).get(name)
        if device is None:
            # eucalyptus/eucalyptus, ComputeService.java, which answers as EC2 does
            raise Refusal("InvalidInstanceAttributeValue", f"No device is currently mapped at {name}")
        volume_id = params.get(f"{match[1]}.Ebs.VolumeId", device.volume_id)
        if volume_id != device.volume_id:
            # The same; it notes that EC2 itself takes any volume id that exists.
            raise Refusal("InvalidInstanceAttributeValue", f"Invalid volume ({volume_id})")
        found.append((device, params.get(f"{match[1]}.Ebs.DeleteOnTermination", "true") == "true"))
    return found


def _check_groups(backend: Any, instance: Any, groups: list[str]) -> None:
    if len(instance.nics) > 1:
        # ModifyInstanceAttribute on several interfaces: boto/boto3#1772, hashicorp/terraform#14299
        raise Refusal(
            "InvalidInstanceID",
            f"There are multiple interfaces attached to instance '{instance.id}'. Please specify an interface ID for "
            "the operation instead.",
        )
    check_groups(backend, groups, instance.vpc_id)


# --- Ending an instance -----------------------------------------------------------------------------------------------


@rule("TerminateInstances")
def _terminate(backend: Any, params: Params) -> None:
    for instance in [instance_by_id(backend, instance_id) for instance_id in numbered(params, "InstanceId")]:
        # EC2 user guide, "Enable stop protection": it protects from termination too
        for attribute in (name for name, flag in _FLAGS.items() if getattr(instance, flag)):
            # rebuy-de/aws-nuke#279, cloud-custodian#7597
            raise Refusal(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be terminated. Modify its '{attribute}' instance attribute and "
                "try again.",
            )


@rule("StopInstances")
def _stop(backend: Any, params: Params) -> None:
    for instance in [instance_by_id(backend, instance_id) for instance_id in numbered(params, "InstanceId")]:
        if instance.disable_api_stop:
            # cloud-custodian PR#8007
            raise Refusal(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be stopped. Modify its 'disableApiStop' instance attribute and "
                "try again.",
            )
        if instance.root_device_type != "ebs":
            # mitchellh/vagrant-aws#193
            raise Refusal(
                "UnsupportedOperation",
                f"The instance '{instance.id}' does not have an 'ebs' root device type and cannot be stopped.",
            )


# --- Launch -----------------------------------------------------------------------------------------------------------


@rule("RunInstances")
def _volumes_go_with_it(_backend: Any, params: Params) -> None:
    """A volume made at launch goes with its instance, where the request says nothing; moto keeps it."""
    for device in {key.rpartition(".")[0] for key in params if re.match(r"BlockDeviceMapping\.\d+\.Ebs\.", key)}:
        params.setdefault(f"{device}.DeleteOnTermination", "true")


@afterwards("RunInstances")
def _launched(backend: Any, params: Params, answer: bytes) -> None:
    for instance_id in re.findall(r"<instanceId>(i-[0-9a-f]+)</instanceId>", answer.decode()):
        instance = instance_by_id(backend, instance_id)
        instance.disable_api_termination = params.get("DisableApiTermination") == "true"
        if is_spot(instance):
            # InstanceMarketOptionsRequest, SpotInstanceType: one-time unless asked for
            instance.spot_type = params.get("InstanceMarketOptions.SpotOptions.SpotInstanceType", "one-time")
        if backend.amis[instance.image_id].root_device_type == "instance-store":
            _without_volumes(instance)
        if instance.root_device_type != "ebs" or (is_spot(instance) and instance.spot_type == "one-time"):
            # Neither can stop, so a shutdown terminates it.
            instance.instance_initiated_shutdown_behavior = "terminate"


def _without_volumes(instance: Any) -> None:
    for _name, device in instance.get_block_device_mapping:
        device.delete_on_termination = True
    instance.teardown_defaults()
    instance.root_device_type = "instance-store"


def is_spot(instance: Any) -> bool:
    return instance.lifecycle == "spot"


def repair_moto() -> None:
    """Auto Scaling ends protected instances too: the API's refusal is the rule above, not moto's model."""
    InstanceBackend.terminate_instances = _unprotected(InstanceBackend.terminate_instances)


def _unprotected(original: Callable[..., Any]) -> Callable[..., Any]:
    def terminate(backend: Any, instance_ids: list[str]) -> Any:
        # EC2 user guide, "Change instance termination protection": no protection from Auto Scaling
        for instance in backend.get_multi_instances_by_id(instance_ids):
            instance.disable_api_termination = False
        return original(backend, instance_ids)

    return terminate


def refuse_dry_run(params: Params) -> None:
    """DryRun: the call would have succeeded."""
    if params.get("DryRun") == "true":
        # API errors: DryRunOperation
        raise Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
