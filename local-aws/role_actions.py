"""The actions that CloudFormation needs for a resource, by type and operation, for `service_roles`.

Reads: all that the type's registry schema lists (`handlers`: create or update with read, and delete). Writes: those
that the properties make necessary, each on the resources that it touches. A new resource is `kind/*`, with the keys
that it will have. Resources and keys: Service Authorization Reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import authorisation
import instance_profiles
import moto_ec2
import resources
from authorisation import Check
from moto_ec2 import ACCOUNT, REGION
from resources import Properties


class Writes(Protocol):
    def create(self, properties: Properties, /) -> Iterator[Check]: ...
    def update(self, physical_id: str, old: Properties, new: Properties, /) -> Iterator[Check]: ...
    def delete(self, physical_id: str, properties: Properties, /) -> Iterator[Check]: ...


def parameter_arn(name: str) -> str:
    """Public parameters belong to no account."""
    account = "" if name.startswith("/aws/") else ACCOUNT
    return f"arn:aws:ssm:{REGION}:{account}:parameter/{name.lstrip('/')}"


def _new(kind: str) -> str:
    return authorisation._arn(moto_ec2.backend(), kind, "*")


def _existing(*ids: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return authorisation._known(moto_ec2.backend(), list(ids))


def _on(action: str, *ids: str) -> Iterator[Check]:
    return (Check(action, arn, keys) for arn, keys in _existing(*ids))


def _request_tags(properties: Properties) -> dict[str, Any]:
    return authorisation._request_tag_keys(resources._tags({"Tags": resources._own_tags(properties)}))


def _retagged(old: Properties, new: Properties, *ids: str) -> Iterator[Check]:
    before, after = resources._tags(old), resources._tags(new)
    if {key: value for key, value in after.items() if before.get(key) != value}:
        yield from _on("ec2:CreateTags", *ids)
    if before.keys() - after.keys():
        yield from _on("ec2:DeleteTags", *ids)


class _Group:
    def create(self, properties: Properties) -> Iterator[Check]:
        keys = _request_tags(properties)
        yield Check("ec2:CreateSecurityGroup", _new("security-group"), keys)
        yield from _on("ec2:CreateSecurityGroup", properties.get("VpcId", ""))
        yield Check("ec2:CreateTags", _new("security-group"), {**keys, "ec2:createaction": "CreateSecurityGroup"})
        group = self._made(properties)
        if properties.get("SecurityGroupEgress"):
            yield Check("ec2:RevokeSecurityGroupEgress", _new("security-group"), group)
            yield Check("ec2:AuthorizeSecurityGroupEgress", _new("security-group"), group)
        if properties.get("SecurityGroupIngress"):
            yield Check("ec2:AuthorizeSecurityGroupIngress", _new("security-group"), group)

    def _made(self, properties: Properties) -> dict[str, Any]:
        """The keys of the group that is there by then."""
        tags = resources._tags(properties)
        keys = {f"{prefix}:resourcetag/{key}": tags[key] for prefix in ("aws", "ec2") for key in tags}
        vpc = properties.get("VpcId")
        return {**keys, **({"ec2:vpc": authorisation._arn(moto_ec2.backend(), "vpc", vpc)} if vpc else {})}

    def update(self, physical_id: str, old: Properties, new: Properties) -> Iterator[Check]:
        for kind in ("Ingress", "Egress"):
            before, after = (p.get(f"SecurityGroup{kind}", []) for p in (old, new))
            if any(rule not in after for rule in before):
                yield from _on(f"ec2:RevokeSecurityGroup{kind}", physical_id)
            if any(rule not in before for rule in after):
                yield from _on(f"ec2:AuthorizeSecurityGroup{kind}", physical_id)
        yield from _retagged(old, new, physical_id)

    def delete(self, physical_id: str, _properties: Properties) -> Iterator[Check]:
        return _on("ec2:DeleteSecurityGroup", physical_id)


class _Rule:
    """AWS::EC2::SecurityGroupIngress and …Egress"""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def create(self, properties: Properties) -> Iterator[Check]:
        return _on(f"ec2:AuthorizeSecurityGroup{self.kind}", properties["GroupId"])

    def update(self, _physical_id: str, _old: Properties, new: Properties) -> Iterator[Check]:
        return _on(f"ec2:UpdateSecurityGroupRuleDescriptions{self.kind}", new["GroupId"])

    def delete(self, _physical_id: str, properties: Properties) -> Iterator[Check]:
        return _on(f"ec2:RevokeSecurityGroup{self.kind}", properties["GroupId"])


class _LaunchTemplate:
    def create(self, _properties: Properties) -> Iterator[Check]:
        yield Check("ec2:CreateLaunchTemplate", _new("launch-template"))
        yield Check("ec2:CreateTags", _new("launch-template"), {"ec2:createaction": "CreateLaunchTemplate"})

    def update(self, physical_id: str, _old: Properties, _new: Properties) -> Iterator[Check]:
        yield _of_launch_template("ec2:CreateLaunchTemplateVersion", physical_id)

    def delete(self, physical_id: str, _properties: Properties) -> Iterator[Check]:
        yield _of_launch_template("ec2:DeleteLaunchTemplate", physical_id)


def _of_launch_template(action: str, template_id: str) -> Check:
    backend = moto_ec2.backend()
    tags = {f"aws:resourcetag/{key}": value for key, value in backend.tags.get(template_id, {}).items()}
    return Check(action, authorisation._arn(backend, "launch-template", template_id), tags)


class _Instance:
    def create(self, properties: Properties) -> Iterator[Check]:
        backend = moto_ec2.backend()
        request = resources._launch_request(properties)
        keys = _request_tags(properties)
        for kind in ("instance", "network-interface", "volume"):
            yield Check("ec2:RunInstances", _new(kind), keys if kind == "instance" else {})
        image = str(request.get("ImageId", ""))
        if image.startswith("resolve:ssm:"):
            yield Check("ssm:GetParameters", parameter_arn(image.removeprefix("resolve:ssm:").partition(":")[0]))
            image = "*"
        yield Check("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/{image}")
        interfaces = request.get("NetworkInterfaces", [])
        groups = [*request.get("SecurityGroupIds", []), *(g for nic in interfaces for g in nic.get("Groups", []))]
        yield from _on("ec2:RunInstances", *groups)
        for subnet in (request.get("SubnetId"), *(nic.get("SubnetId") for nic in interfaces)):
            if subnet:
                yield Check("ec2:RunInstances", authorisation._arn(backend, "subnet", subnet))
        if "KeyName" in request:
            yield Check("ec2:RunInstances", authorisation._arn(backend, "key-pair", request["KeyName"]))
        if "LaunchTemplate" in request:
            yield _of_launch_template("ec2:RunInstances", request["LaunchTemplate"]["LaunchTemplateId"])
        for kind in ("instance", "volume") if properties.get("PropagateTagsToVolumeOnCreation") else ("instance",):
            yield Check("ec2:CreateTags", _new(kind), {**keys, "ec2:createaction": "RunInstances"})
        yield from self._passed(request)

    def _passed(self, request: dict[str, Any]) -> Iterator[Check]:
        profile = request.get("IamInstanceProfile", {})
        named = {f"IamInstanceProfile.{name}": value for name, value in profile.items()}
        for role in instance_profiles.role_arns(named):
            yield Check("iam:PassRole", role, {"iam:passedtoservice": "ec2.amazonaws.com"})

    def update(self, physical_id: str, old: Properties, new: Properties) -> Iterator[Check]:
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        if changed & {"InstanceType", "UserData"}:
            yield from _on("ec2:StopInstances", physical_id)
            yield from _on("ec2:StartInstances", physical_id)
        if changed - {"Tags"}:
            yield from _on("ec2:ModifyInstanceAttribute", physical_id)
        yield from _retagged(old, new, physical_id)

    def delete(self, physical_id: str, _properties: Properties) -> Iterator[Check]:
        return _on("ec2:TerminateInstances", physical_id)


class _ManagedPolicy:
    NEW = f"arn:aws:iam::{ACCOUNT}:policy/*"

    def _on_roles(self, action: str, policy: str, roles: Iterable[str]) -> Iterator[Check]:
        from ministack.services import iam

        for role in roles:
            if role in iam._roles:
                yield Check(f"iam:{action}", iam._roles[role]["Arn"], {"iam:policyarn": policy})

    def create(self, properties: Properties) -> Iterator[Check]:
        yield Check("iam:CreatePolicy", self.NEW)
        yield from self._on_roles("AttachRolePolicy", self.NEW, properties.get("Roles", []))

    def update(self, physical_id: str, old: Properties, new: Properties) -> Iterator[Check]:
        yield Check("iam:CreatePolicyVersion", physical_id)
        before, after = old.get("Roles", []), new.get("Roles", [])
        yield from self._on_roles("AttachRolePolicy", physical_id, [role for role in after if role not in before])
        yield from self._on_roles("DetachRolePolicy", physical_id, [role for role in before if role not in after])

    def delete(self, physical_id: str, properties: Properties) -> Iterator[Check]:
        yield Check("iam:DeletePolicy", physical_id)
        yield from self._on_roles("DetachRolePolicy", physical_id, properties.get("Roles", []))


class _Parameter:
    def create(self, properties: Properties) -> Iterator[Check]:
        yield Check("ssm:PutParameter", parameter_arn(properties.get("Name", "*")))

    def update(self, physical_id: str, _old: Properties, _new: Properties) -> Iterator[Check]:
        yield Check("ssm:PutParameter", parameter_arn(physical_id))

    def delete(self, physical_id: str, _properties: Properties) -> Iterator[Check]:
        yield Check("ssm:DeleteParameter", parameter_arn(physical_id))


class _Alarm:
    def _on(self, action: str, name: str) -> Check:
        return Check(f"cloudwatch:{action}", f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}")

    def create(self, properties: Properties) -> Iterator[Check]:
        name = properties.get("AlarmName", "*")
        yield self._on("PutMetricAlarm", name)
        yield from self._reads(name)
        if properties.get("Tags"):
            yield self._on("TagResource", name)

    def update(self, physical_id: str, old: Properties, new: Properties) -> Iterator[Check]:
        yield self._on("PutMetricAlarm", physical_id)
        yield from self._reads(physical_id)
        if old.get("Tags") != new.get("Tags"):
            yield self._on("TagResource", physical_id)
            yield self._on("UntagResource", physical_id)

    def delete(self, physical_id: str, _properties: Properties) -> Iterator[Check]:
        yield self._on("DeleteAlarms", physical_id)
        yield self._on("DescribeAlarms", "*")

    def _reads(self, name: str) -> Iterator[Check]:
        """DescribeAlarms is on all alarms (CloudWatch user guide, permissions reference)."""
        yield self._on("DescribeAlarms", "*")
        yield self._on("ListTagsForResource", name)


WRITES: dict[str, Writes] = {
    "AWS::CloudWatch::Alarm": _Alarm(),
    "AWS::EC2::Instance": _Instance(),
    "AWS::EC2::LaunchTemplate": _LaunchTemplate(),
    "AWS::EC2::SecurityGroup": _Group(),
    "AWS::EC2::SecurityGroupEgress": _Rule("Egress"),
    "AWS::EC2::SecurityGroupIngress": _Rule("Ingress"),
    "AWS::IAM::ManagedPolicy": _ManagedPolicy(),
    "AWS::SSM::Parameter": _Parameter(),
}

_INSTANCE = (
    "ec2:DescribeInstances",
    "ec2:DescribeInstanceAttribute",
    "ec2:DescribeInstanceCreditSpecifications",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeVolumes",
    "ssm:DescribeAssociation",
    "ssm:ListAssociations",
)
_PLACED_INSTANCE = (
    *_INSTANCE,
    "ec2:DescribeIamInstanceProfileAssociations",
    "ec2:DescribeKeyPairs",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
)
_LAUNCH_TEMPLATE = ("ec2:DescribeLaunchTemplates",)
_GROUP = ("ec2:DescribeSecurityGroups",)
_RULE = ("ec2:DescribeSecurityGroupRules", "ec2:DescribeSecurityGroups")
_POLICY = ("iam:GetPolicy", "iam:ListEntitiesForPolicy", "iam:GetPolicyVersion")
_PARAMETER = ("ssm:GetParameters", "ssm:ListTagsForResource")
# (resource type, operation) -> actions, each on "*"
READS: dict[tuple[str, str], tuple[str, ...]] = {
    # Its reads are on alarms, not on "*": they stand with its writes.
    ("AWS::CloudWatch::Alarm", "create"): (),
    ("AWS::CloudWatch::Alarm", "update"): (),
    ("AWS::CloudWatch::Alarm", "delete"): (),
    ("AWS::EC2::Instance", "create"): (*_PLACED_INSTANCE, "ec2:DescribeLaunchTemplateVersions"),
    ("AWS::EC2::Instance", "update"): _PLACED_INSTANCE,
    ("AWS::EC2::Instance", "delete"): _INSTANCE,
    ("AWS::EC2::LaunchTemplate", "create"): _LAUNCH_TEMPLATE,
    ("AWS::EC2::LaunchTemplate", "update"): _LAUNCH_TEMPLATE,
    ("AWS::EC2::LaunchTemplate", "delete"): _LAUNCH_TEMPLATE,
    ("AWS::EC2::SecurityGroup", "create"): _GROUP,
    ("AWS::EC2::SecurityGroup", "update"): _GROUP,
    ("AWS::EC2::SecurityGroup", "delete"): (*_GROUP, "ec2:DescribeInstances"),
    ("AWS::EC2::SecurityGroupEgress", "create"): _RULE,
    ("AWS::EC2::SecurityGroupEgress", "update"): _RULE,
    ("AWS::EC2::SecurityGroupEgress", "delete"): _RULE[:1],
    ("AWS::EC2::SecurityGroupIngress", "create"): _RULE,
    ("AWS::EC2::SecurityGroupIngress", "update"): _RULE,
    ("AWS::EC2::SecurityGroupIngress", "delete"): _RULE[:1],
    ("AWS::IAM::ManagedPolicy", "create"): _POLICY,
    ("AWS::IAM::ManagedPolicy", "update"): (*_POLICY, "iam:ListPolicyVersions"),
    ("AWS::IAM::ManagedPolicy", "delete"): (_POLICY[0], _POLICY[1], "iam:ListPolicyVersions"),
    ("AWS::SSM::Parameter", "create"): _PARAMETER,
    ("AWS::SSM::Parameter", "update"): _PARAMETER,
    ("AWS::SSM::Parameter", "delete"): (),
}
