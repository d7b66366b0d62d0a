"""Authorises EC2 calls as EC2 does: every resource of the call, with its condition keys.

ministack checks one ARN per EC2 call and knows no `ec2:` keys, so its own check is switched off for EC2 (the signature
is still verified) and its evaluator is asked here once per resource. A resource that does not exist is left to the call
itself, whose NotFound says more than a refusal. Source of resources and keys: the Service Authorization Reference,
"Actions, resources, and condition keys for Amazon EC2".
"""

from __future__ import annotations

import contextvars
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import instance_profiles
from ec2_rules import Params, Refusal, numbered

# The parameter that names the resource of a call, for calls with resource-level permissions; all others are on "*".
_RESOURCE_PARAMETER = {
    "DescribeInstanceAttribute": "InstanceId",
    "StartInstances": "InstanceId",
    "StopInstances": "InstanceId",
    "TerminateInstances": "InstanceId",
    "AssociateIamInstanceProfile": "InstanceId",
    "ModifyInstanceMetadataOptions": "InstanceId",
    "DeleteNetworkInterface": "NetworkInterfaceId",
    "DeleteSecurityGroup": "GroupId",
    "AuthorizeSecurityGroupIngress": "GroupId",
    "AuthorizeSecurityGroupEgress": "GroupId",
    "RevokeSecurityGroupIngress": "GroupId",
    "RevokeSecurityGroupEgress": "GroupId",
    "DeleteSnapshot": "SnapshotId",
    "LockSnapshot": "SnapshotId",
    "UnlockSnapshot": "SnapshotId",
    "CopySnapshot": "SourceSnapshotId",
    "DeleteVolume": "VolumeId",
    "DescribeSnapshotAttribute": "SnapshotId",
    "ModifySnapshotAttribute": "SnapshotId",
}
_KINDS = {
    "eni": "network-interface",
    "i": "instance",
    "sg": "security-group",
    "snap": "snapshot",
    "vol": "volume",
    "vpc": "vpc",
}

# Headers and query of the API call that is being answered, for services whose handlers are not given them.
caller: contextvars.ContextVar[tuple[dict[str, str], dict[str, list[str]]]] = contextvars.ContextVar("caller")


@dataclass
class Check:
    """One question to the evaluator: may the caller do `action` on `resource`, given `keys`?"""

    action: str
    resource: str
    keys: dict[str, Any] = field(default_factory=dict)


def authorise(backend: Any, headers: dict[str, str], query: dict[str, list[str]], params: Params) -> None:
    """Refuse with UnauthorizedOperation unless the caller may do this call on every resource of it."""
    for check in checks(backend, params):
        if (reason := denial(backend.region_name, headers, query, check)) is not None:
            raise Refusal("UnauthorizedOperation", f"You are not authorized to perform this operation. {reason}", 403)


def by_log_stream(original: Callable[..., str]) -> Callable[..., str]:
    """The calls on a log stream are on it (aws-solutions/aws-crr-monitor#8), not on its group as in ministack."""

    def resource(service: str, method: str, path: str, headers: dict[str, str], body: bytes, *rest: Any) -> str:
        found = original(service, method, path, headers, body, *rest)
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        if service == "logs" and action in ("CreateLogStream", "DeleteLogStream", "PutLogEvents"):
            return f"{found}:log-stream:{json.loads(body).get('logStreamName', '')}"
        return found

    return resource


def denial(region: str, headers: dict[str, str], query: dict[str, list[str]], check: Check) -> str | None:
    """Why the caller may not, in IAM's words; None where it may. Refuses a caller whom nobody knows."""
    from ministack.core.iam_evaluator import AuthError, enforce
    from ministack.core.router import extract_access_key_id

    access_key = extract_access_key_id(headers, query)
    service = check.action.partition(":")[0]
    denied = enforce(access_key, check.action, service, region, check.resource, check.keys)
    if denied is None:
        return None
    if isinstance(denied, AuthError):
        raise Refusal("AuthFailure", denied.message, 401)
    reason = (
        "with an explicit deny in an identity-based policy"
        if denied.decision == "Deny"
        else f"because no identity-based policy allows the {check.action} action"
    )
    caller = denied.principal_arn
    return f"User: {caller} is not authorized to perform: {check.action} on resource: {check.resource} {reason}"


def checks(backend: Any, params: Params) -> list[Check]:
    """Every check of one call, the call's own action first, then those of what it implies.

    These are `ec2:CreateTags` for tags given on creation, and `iam:PassRole` for the role of an instance profile.
    """
    action = params.get("Action", "")
    tags = _specified_tags(params)
    request_keys = _request_tag_keys(tags) if tags else {}
    found = [Check(f"ec2:{action}", arn, {**keys, **request_keys}) for arn, keys in _resources(backend, action, params)]
    for kind in sorted(_specified_kinds(params)):
        created = _arn(backend, kind, "*")
        found.append(Check("ec2:CreateTags", created, {**request_keys, "ec2:createaction": action}))
    # IAM user guide, "Grant a user permissions to pass a role to an AWS service"
    passed = {"iam:passedtoservice": "ec2.amazonaws.com"}
    found.extend(Check("iam:PassRole", role, passed) for role in instance_profiles.role_arns(params))
    return found


def _resources(backend: Any, action: str, params: Params) -> Iterator[tuple[str, dict[str, Any]]]:
    if action == "ModifyNetworkInterfaceAttribute":
        yield from _known(backend, [params.get("NetworkInterfaceId", ""), *numbered(params, "SecurityGroupId")])
        interface = backend.enis.get(params.get("NetworkInterfaceId", ""))
        if interface is not None and interface.instance is not None:
            yield from _known(backend, [interface.instance.id])
    elif action == "ModifyInstanceAttribute":
        named = [params.get("InstanceId", ""), *numbered(params, "GroupId"), *_mapped_volumes(backend, params)]
        yield from _known(backend, named)
    elif action in ("CreateTags", "DeleteTags"):
        tags = {key: params.get(f"Tag.{n}.Value", "") for n, key in _tag_keys(params)}
        for arn, keys in _known(backend, numbered(params, "ResourceId")):
            yield arn, {**keys, **_request_tag_keys(tags)}
    elif action == "CreateSnapshots":
        instance_id = params.get("InstanceSpecification.InstanceId", "")
        yield from _known(backend, [instance_id])
        yield from _known(backend, [v.id for v in backend.volumes.values() if _attached_to(v, instance_id)])
        yield _arn(backend, "snapshot", "*"), {}
    elif action in ("AssociateSecurityGroupVpc", "DisassociateSecurityGroupVpc"):
        yield from _known(backend, [params.get("GroupId", ""), params.get("VpcId", "")])
    elif action in ("AttachVolume", "DetachVolume"):
        yield from _known(backend, [params.get("VolumeId", ""), params.get("InstanceId", "")])
    elif action == "CreateSnapshot":
        yield from _known(backend, [params.get("VolumeId", "")])
        yield _arn(backend, "snapshot", "*"), {}
    elif action in ("DisassociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation"):
        for association in backend.iam_instance_profile_associations.values():
            if association.association_id == params.get("AssociationId"):
                yield from _known(backend, [association.instance.id])
    elif action in _RESOURCE_PARAMETER:
        name = _RESOURCE_PARAMETER[action]
        for arn, keys in _known(backend, [params[name]] if name in params else numbered(params, name)):
            yield arn, {**keys, **_lock_keys(params)}
    else:
        yield "*", {}


def _lock_keys(params: Params) -> dict[str, Any]:
    asked = {"LockDuration": "ec2:snapshotlockduration", "CoolOffPeriod": "ec2:snapshotcooloffperiod"}
    return {key: params[name] for name, key in asked.items() if name in params}


def _known(backend: Any, ids: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The ARN and the condition keys of each resource that exists."""
    for resource_id in ids:
        kind = _KINDS.get(resource_id.partition("-")[0])
        if kind is None or not _exists(backend, kind, resource_id):
            continue
        keys: dict[str, Any] = {}
        for name, value in backend.tags.get(resource_id, {}).items():
            keys[f"aws:resourcetag/{name}"] = value
            keys[f"ec2:resourcetag/{name}"] = value
        vpc_id = _vpc_of(backend, kind, resource_id)
        if vpc_id is not None:
            keys["ec2:vpc"] = _arn(backend, "vpc", vpc_id)
        yield _arn(backend, kind, resource_id), {key.lower(): value for key, value in keys.items()}


def _exists(backend: Any, kind: str, resource_id: str) -> bool:
    if kind == "instance":
        return any(instance.id == resource_id for instance in backend.all_instances())
    if kind == "security-group":
        return backend.get_security_group_from_id(resource_id) is not None
    stores = {
        "network-interface": backend.enis,
        "snapshot": backend.snapshots,
        "volume": backend.volumes,
        "vpc": backend.vpcs,
    }
    return resource_id in stores[kind]


def _vpc_of(backend: Any, kind: str, resource_id: str) -> str | None:
    """`ec2:Vpc` exists for interfaces and groups, not for instances.

    A group's is the VPC that it was made in, whichever it was associated with since (SecurityGroup, API reference:
    VpcId; that the key is that one is an inference).
    """
    if kind == "network-interface":
        return backend.enis[resource_id].subnet.vpc_id
    if kind == "security-group":
        return backend.get_security_group_from_id(resource_id).vpc_id
    return None


def _arn(backend: Any, kind: str, name: str) -> str:
    """Snapshots have no account in their ARN."""
    account = "" if kind == "snapshot" else backend.account_id
    return f"arn:aws:ec2:{backend.region_name}:{account}:{kind}/{name}"


def _attached_to(volume: Any, instance_id: str) -> bool:
    return any(attachment.instance.id == instance_id for attachment in volume.attachments)


def _mapped_volumes(backend: Any, params: Params) -> list[str]:
    """The volumes at the devices that ModifyInstanceAttribute names, whether or not it names the volumes too.

    The reference lists the volume among the resources of the call; that a device alone brings it in is an inference.
    """
    devices = {value for key, value in params.items() if re.fullmatch(r"BlockDeviceMapping\.\d+\.DeviceName", key)}
    instance = backend.get_instance_by_id(params.get("InstanceId", ""))
    mapping = instance.get_block_device_mapping if instance is not None else []
    return [device.volume_id for name, device in mapping if name in devices]


def _tag_keys(params: Params) -> list[tuple[str, str]]:
    return [(m[1], value) for key, value in params.items() if (m := re.fullmatch(r"Tag\.(\d+)\.Key", key))]


def _specified_kinds(params: Params) -> set[str]:
    return {value for key, value in params.items() if re.fullmatch(r"TagSpecification\.\d+\.ResourceType", key)}


def _specified_tags(params: Params) -> dict[str, str]:
    found = {}
    for key, value in params.items():
        if match := re.fullmatch(r"(TagSpecification\.\d+\.Tag\.\d+)\.Key", key):
            found[value] = params.get(f"{match[1]}.Value", "")
    return found


def _request_tag_keys(tags: dict[str, str]) -> dict[str, Any]:
    keys: dict[str, Any] = {f"aws:requesttag/{name}".lower(): value for name, value in tags.items()}
    return {**keys, "aws:tagkeys": list(tags)}
