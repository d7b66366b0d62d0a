"""CloudFormation's resource types: EC2's, provisioned in moto, and amendments to ministack's own.

ministack provisions EC2's in its own EC2 store, or not at all. Each type here is a set of functions with ministack's
handler signatures: `create(logical_id, properties, stack_name) -> (physical id, attributes)`, `update(physical_id, old,
new, stack_name, logical_id) -> same`, `delete(physical_id, properties)`. An update that needs a replacement returns a
new physical id; ministack deletes the old resource in the clean-up phase.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import string
from typing import Any

from botocore.exceptions import ClientError

import moto_ec2
from control import knobs

Properties = dict[str, Any]
Provisioned = tuple[str, dict[str, Any]]

# Properties of AWS::EC2::Instance that are no argument of RunInstances.
_NOT_RUN_INSTANCES = {"LaunchTemplate", "Tags", "PropagateTagsToVolumeOnCreation", "SourceDestCheck"}
# The data of each launch template version, as the template wrote it: RunInstances of moto merges only part of it.
_launch_templates: dict[str, list[Properties]] = {}


def invented_name(stack_name: str, logical_id: str) -> str:
    """`stack-Logical-1ABC2DEF3GHI`: the name CloudFormation makes up where the template gives none."""
    suffix = "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(12))
    return f"{stack_name}-{logical_id}-{suffix}"


def _tags(properties: Properties) -> dict[str, str]:
    return {tag["Key"]: str(tag["Value"]) for tag in properties.get("Tags", [])}


def _tag(physical_id: str, old: Properties, new: Properties) -> None:
    """Tags go past the API, which refuses the `aws:` ones that CloudFormation itself sets."""
    backend = moto_ec2.backend()
    backend.delete_tag_keys([physical_id], [key for key in _tags(old) if key not in _tags(new)])
    backend.create_tags([physical_id], _tags(new))


def _own_tags(properties: Properties) -> list[dict[str, str]]:
    return [tag for tag in properties.get("Tags", []) if not tag["Key"].startswith("aws:")]


def _delete(call: Any, *gone: str, **arguments: Any) -> None:
    """A resource that is gone already is deleted."""
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in gone:
            raise


# --- Security groups --------------------------------------------------------------------------------------------------


def _permission(rule: Properties) -> dict[str, Any]:
    """One rule in CloudFormation's spelling as EC2's IpPermission."""
    described = {"Description": rule["Description"]} if rule.get("Description") else {}
    permission: dict[str, Any] = {"IpProtocol": str(rule["IpProtocol"])}
    for port in ("FromPort", "ToPort"):
        if port in rule:
            permission[port] = int(rule[port])
    if "CidrIp" in rule:
        permission["IpRanges"] = [{"CidrIp": rule["CidrIp"], **described}]
    if "CidrIpv6" in rule:
        permission["Ipv6Ranges"] = [{"CidrIpv6": rule["CidrIpv6"], **described}]
    group = rule.get("SourceSecurityGroupId") or rule.get("DestinationSecurityGroupId")
    if group:
        # A group of a peered VPC may be written as account/group.
        account, _, group_id = group.rpartition("/")
        account = account or rule.get("SourceSecurityGroupOwnerId", "")
        pair = {"GroupId": group_id, **({"UserId": account} if account else {})}
        permission["UserIdGroupPairs"] = [{**pair, **described}]
    return permission


def _authorize(group_id: str, kind: str, rules: list[Properties]) -> list[str]:
    """Add rules to a group, `kind` is ingress or egress. Returns the rule ids."""
    if not rules:
        return []
    call = getattr(moto_ec2.client(), f"authorize_security_group_{kind}")
    answer = call(GroupId=group_id, IpPermissions=[_permission(rule) for rule in rules])
    return [rule["SecurityGroupRuleId"] for rule in answer["SecurityGroupRules"]]


def _revoke(group_id: str, kind: str, rules: list[Properties]) -> None:
    if rules:
        call = getattr(moto_ec2.client(), f"revoke_security_group_{kind}")
        call(GroupId=group_id, IpPermissions=[_permission(rule) for rule in rules])


def _group(group_id: str) -> Provisioned:
    group = moto_ec2.client().describe_security_groups(GroupIds=[group_id])["SecurityGroups"][0]
    return group_id, {"Id": group_id, "GroupId": group_id, "VpcId": group["VpcId"]}


def create_security_group(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    """Explicit egress replaces the rule that allows everything, as CloudFormation does."""
    is_open = any(rule.get("CidrIp") == "0.0.0.0/0" for rule in properties.get("SecurityGroupIngress", []))
    if knobs.refuse_open_groups and is_open:
        # CloudFormation Hooks user guide: how a resource fails that a hook refuses.
        raise RuntimeError("The following hook(s) failed: [Guardrail::Network::NoOpenGroups]")
    ec2 = moto_ec2.client()
    name = properties.get("GroupName") or invented_name(stack_name, logical_id)
    placement = {"VpcId": properties["VpcId"]} if "VpcId" in properties else {}
    group_id = ec2.create_security_group(GroupName=name, Description=properties["GroupDescription"], **placement)[
        "GroupId"
    ]
    if properties.get("SecurityGroupEgress"):
        group = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"][0]
        ec2.revoke_security_group_egress(GroupId=group_id, IpPermissions=group["IpPermissionsEgress"])
    _authorize(group_id, "ingress", properties.get("SecurityGroupIngress", []))
    _authorize(group_id, "egress", properties.get("SecurityGroupEgress", []))
    _tag(group_id, {}, properties)
    return _group(group_id)


def update_security_group(physical_id: str, old: Properties, new: Properties, _stack_name: str) -> Provisioned:
    for kind in ("ingress", "egress"):
        before, after = (p.get(f"SecurityGroup{kind.capitalize()}", []) for p in (old, new))
        _revoke(physical_id, kind, [rule for rule in before if rule not in after])
        _authorize(physical_id, kind, [rule for rule in after if rule not in before])
    _tag(physical_id, old, new)
    return _group(physical_id)


def delete_security_group(physical_id: str, _properties: Properties) -> None:
    _delete(moto_ec2.client().delete_security_group, "InvalidGroup.NotFound", GroupId=physical_id)


def _rule_handlers(kind: str) -> dict[str, Any]:
    """AWS::EC2::SecurityGroupIngress and …Egress: one rule beside its group."""

    def create(_logical_id: str, properties: Properties, _stack_name: str) -> Provisioned:
        rule_id = _authorize(properties["GroupId"], kind, [properties])[0]
        return rule_id, {"Id": rule_id}

    def update(physical_id: str, _old: Properties, _new: Properties, _stack_name: str) -> Provisioned:
        """Only the description can be changed."""
        return physical_id, {"Id": physical_id}

    def delete(physical_id: str, properties: Properties) -> None:
        call = getattr(moto_ec2.client(), f"revoke_security_group_{kind}")
        gone = ("InvalidGroup.NotFound", "InvalidSecurityGroupRuleId.NotFound", "InvalidPermission.NotFound")
        _delete(call, *gone, GroupId=properties["GroupId"], SecurityGroupRuleIds=[physical_id])

    return {"create": create, "update": update, "delete": delete}


# --- What ministack provisions itself, but not as AWS does ------------------------------------------------------------


def _table_create(original: Any) -> Any:
    def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        """ministack drops point-in-time recovery and encryption of a table that a template makes."""
        from ministack.services import dynamodb

        name, attributes = original(logical_id, properties, stack_name)
        recovery = {"PointInTimeRecoverySpecification": properties.get("PointInTimeRecoverySpecification", {})}
        dynamodb._update_continuous_backups({"TableName": name, **recovery})
        encryption = {k.removeprefix("SSE"): v for k, v in properties.get("SSESpecification", {}).items()}
        dynamodb._tables[name]["SSEDescription"] = dynamodb._sse_description_from_spec(encryption)
        return name, attributes

    return create


def _named_log_group(handler: dict[str, Any]) -> dict[str, Any]:
    """A log group without a name gets a unique one, so that a retained group does not meet its successor."""

    def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        name = properties.get("LogGroupName") or invented_name(stack_name, logical_id)
        return handler["create"](logical_id, {**properties, "LogGroupName": name}, stack_name)

    def update(physical_id: str, old: Properties, new: Properties, stack_name: str, logical_id: str) -> Provisioned:
        name = {"LogGroupName": physical_id}
        return handler["update"](physical_id, {**name, **old}, {**name, **new}, stack_name, logical_id)

    return {**handler, "create": create, "update": update}


def _worded(call: Any) -> Any:
    def provision(*arguments: Any) -> Provisioned:
        """ministack shows SSM's answer as it came; the code and the message are in it."""
        try:
            return call(*arguments)
        except ValueError as error:
            answer = re.search(r"b'(\{.*\})'", str(error))
            if answer is None:
                raise
            refusal = json.loads(answer[1])
            code = refusal["__type"]
            message = f"{refusal['message']} (Service: Ssm, Status Code: 400, Error Code: {code})"
            raise ValueError(message) from error

    return provision


# --- Launch templates and instances -----------------------------------------------------------------------------------


def _launch_template(template_id: str) -> Provisioned:
    found = moto_ec2.client().describe_launch_templates(LaunchTemplateIds=[template_id])["LaunchTemplates"][0]
    versions = {name: str(found[name]) for name in ("DefaultVersionNumber", "LatestVersionNumber")}
    return template_id, {"LaunchTemplateId": template_id, **versions}


def _typed(data: Any) -> Any:
    """Numbers and booleans that a template may carry as strings, in the type that the API wants."""
    numbers = {"VolumeSize", "Iops", "Throughput", "DeviceIndex", "HttpPutResponseHopLimit", "NetworkCardIndex"}
    if isinstance(data, dict):
        return {key: int(value) if key in numbers else _typed(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_typed(item) for item in data]
    return {"true": True, "false": False}.get(data, data) if isinstance(data, str) else data


def create_launch_template(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    data = _typed(properties["LaunchTemplateData"])
    name = properties.get("LaunchTemplateName") or invented_name(stack_name, logical_id)
    answer = moto_ec2.client().create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    template_id = answer["LaunchTemplate"]["LaunchTemplateId"]
    _launch_templates[template_id] = [data]
    for specification in properties.get("TagSpecifications", []):
        _tag(template_id, {}, specification)
    return _launch_template(template_id)


def update_launch_template(physical_id: str, _old: Properties, new: Properties, _stack_name: str) -> Provisioned:
    """Any change makes a version. Whether AWS makes one for a change of tags alone is not known."""
    data = _typed(new["LaunchTemplateData"])
    moto_ec2.client().create_launch_template_version(LaunchTemplateId=physical_id, LaunchTemplateData=data)
    _launch_templates[physical_id].append(data)
    return _launch_template(physical_id)


def delete_launch_template(physical_id: str, _properties: Properties) -> None:
    gone = "InvalidLaunchTemplateId.NotFound"
    _delete(moto_ec2.client().delete_launch_template, gone, LaunchTemplateId=physical_id)


def _launch_request(properties: Properties) -> dict[str, Any]:
    """RunInstances arguments: the launch template's data under the instance's own properties."""
    template = properties.get("LaunchTemplate", {})
    request: dict[str, Any] = {}
    if template:
        versions = _launch_templates[template["LaunchTemplateId"]]
        version = str(template.get("Version", "1"))
        data = versions[-1] if version == "$Latest" else versions[0 if version == "$Default" else int(version) - 1]
        request.update({key: value for key, value in data.items() if key != "TagSpecifications"})
        request["LaunchTemplate"] = {"LaunchTemplateId": template["LaunchTemplateId"], "Version": version}
    request.update(_typed({key: value for key, value in properties.items() if key not in _NOT_RUN_INSTANCES}))
    if "Monitoring" in properties:
        request["Monitoring"] = {"Enabled": request["Monitoring"]}
    if "IamInstanceProfile" in properties:
        request["IamInstanceProfile"] = {"Name": properties["IamInstanceProfile"]}
    if "UserData" in request:
        # The template encodes it, and so does boto3.
        request["UserData"] = base64.b64decode(request["UserData"]).decode()
    for interface in request.get("NetworkInterfaces", []):
        if "GroupSet" in interface:
            interface["Groups"] = interface.pop("GroupSet")
    return request


def _instance(instance_id: str) -> Provisioned:
    answer = moto_ec2.client().describe_instances(InstanceIds=[instance_id])
    found = answer["Reservations"][0]["Instances"][0]
    names = {
        "PrivateIp": "PrivateIpAddress",
        "PublicIp": "PublicIpAddress",
        "PrivateDnsName": "PrivateDnsName",
        "PublicDnsName": "PublicDnsName",
        "VpcId": "VpcId",
        "InstanceId": "InstanceId",
    }
    attributes = {name: found.get(source, "") for name, source in names.items()}
    return instance_id, {**attributes, "AvailabilityZone": found["Placement"]["AvailabilityZone"]}


def create_instance(_logical_id: str, properties: Properties, _stack_name: str) -> Provisioned:
    if knobs.launch_failure is not None:
        raise RuntimeError(
            "We currently do not have sufficient capacity in the Availability Zone you requested. "
            f"(Service: Ec2, Status Code: 500, Error Code: {knobs.launch_failure})"
        )
    answer = moto_ec2.client().run_instances(MinCount=1, MaxCount=1, **_launch_request(properties))
    instance_id = answer["Instances"][0]["InstanceId"]
    _tag(instance_id, {}, properties)
    if properties.get("PropagateTagsToVolumeOnCreation"):
        for device in answer["Instances"][0]["BlockDeviceMappings"]:
            _tag(device["Ebs"]["VolumeId"], {}, {"Tags": _own_tags(properties)})
    return _instance(instance_id)


def update_instance(physical_id: str, old: Properties, new: Properties, _stack_name: str) -> Provisioned:
    """Type and user data change in place, as on AWS, which stops and starts the instance for it."""
    instance = moto_ec2.backend().get_instance(physical_id)
    request = _launch_request(new)
    instance.instance_type = request.get("InstanceType", instance.instance_type)
    instance.user_data = new.get("UserData", instance.user_data)
    _tag(physical_id, old, new)
    return _instance(physical_id)


def delete_instance(physical_id: str, _properties: Properties) -> None:
    ec2 = moto_ec2.client()
    _delete(ec2.terminate_instances, "InvalidInstanceID.NotFound", InstanceIds=[physical_id])


def handlers(ministack: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The types to put into ministack's table of resource handlers, which is given."""
    table, parameter = ministack["AWS::DynamoDB::Table"], ministack["AWS::SSM::Parameter"]
    return {
        "AWS::DynamoDB::Table": {**table, "create": _table_create(table["create"])},
        "AWS::Logs::LogGroup": _named_log_group(ministack["AWS::Logs::LogGroup"]),
        "AWS::SSM::Parameter": {**parameter, **{name: _worded(parameter[name]) for name in ("create", "update")}},
        "AWS::EC2::SecurityGroup": {
            "create": create_security_group,
            "update": update_security_group,
            "delete": delete_security_group,
        },
        "AWS::EC2::SecurityGroupIngress": _rule_handlers("ingress"),
        "AWS::EC2::SecurityGroupEgress": _rule_handlers("egress"),
        "AWS::EC2::LaunchTemplate": {
            "create": create_launch_template,
            "update": update_launch_template,
            "delete": delete_launch_template,
        },
        "AWS::EC2::Instance": {
            "create": create_instance,
            "update": update_instance,
            "delete": delete_instance,
        },
    }


# --- Parameters -------------------------------------------------------------------------------------------------------


def existing(parameter_type: str) -> dict[str, dict[str, str]] | None:
    """The values that a parameter of an AWS-specific type may have, with what a Rule may ask about each.

    None for a type that is not checked here. A terminated instance exists as long as EC2 still shows it.
    """
    backend = moto_ec2.backend()
    if parameter_type == "AWS::EC2::VPC::Id":
        return {vpc.id: {} for vpc in backend.vpcs.values()}
    if parameter_type == "AWS::EC2::Subnet::Id":
        subnets = [subnet for zone in backend.subnets.values() for subnet in zone.values()]
        return {s.id: {"VpcId": s.vpc_id, "AvailabilityZone": s.availability_zone} for s in subnets}
    if parameter_type == "AWS::EC2::SecurityGroup::Id":
        return {group_id: {} for groups in backend.groups.values() for group_id in groups}
    if parameter_type == "AWS::EC2::Instance::Id":
        return {instance.id: {} for instance in backend.all_instances()}
    if parameter_type == "AWS::EC2::KeyPair::KeyName":
        return {name: {} for name in backend.key_pairs}
    if parameter_type == "AWS::EC2::Image::Id":
        return {image_id: {} for image_id in backend.amis}
    return None
