"""CloudTrail's records of the calls that can undo an isolation, in the shape in which EventBridge gets them.

Calls of EC2's older API have their parameters in camel case, with lists in `items`; those of the newer one are wrapped
and as they are sent. Shapes: the samples in events/watch, which say where they are from; other calls have no record.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from control import Json
from ec2_rules import numbered

ACCOUNT = "123456789012"
REGION = "us-east-1"
_XMLNS = "http://ec2.amazonaws.com/doc/2016-11-15/"


def record(call: Any, headers: dict[str, str], body: bytes) -> Json | None:
    """The record of a call that was answered; none for a call that is not listed here."""
    shape = _REQUESTS.get(call.action)
    if shape is None or call.service not in ("ec2", "autoscaling"):
        return None
    request_id = str(uuid.uuid4())
    found = {
        "eventVersion": "1.11",
        "userIdentity": _identity(call.principal_arn),
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "eventSource": f"{call.service}.amazonaws.com",
        "eventName": call.action,
        "awsRegion": REGION,
        "sourceIPAddress": "127.0.0.1",
        "userAgent": headers.get("user-agent", ""),
        "requestParameters": shape(call.parameters),
        "responseElements": None,
        "requestID": request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
    }
    if call.status == 200:
        found["responseElements"] = _response(call.action, body, request_id)
    else:
        # CloudTrail user guide, record contents: errorCode, with EC2's prefix
        prefix = ("Client." if call.status < 500 else "Server.") if call.service == "ec2" else ""
        found.update(errorCode=f"{prefix}{call.error_code}", errorMessage="refused")
    return found


def _identity(principal: str) -> Json:
    """userIdentity element, CloudTrail user guide: a user has no sessionContext, a role's session names its role."""
    kind, _, name = principal.rpartition(":")[2].partition("/")
    if kind == "user":
        found = {"type": "IAMUser", "principalId": "AIDALOCAL", "arn": principal, "accountId": ACCOUNT}
        return {**found, "accessKeyId": "AKIALOCAL", "userName": name.rpartition("/")[2]}
    if kind != "assumed-role":
        return {"type": "Root", "principalId": ACCOUNT, "arn": principal, "accountId": ACCOUNT}
    from ministack.services import iam

    role, _, session = name.partition("/")
    issuer = {
        "type": "Role",
        "principalId": "AROALOCAL",
        "arn": iam._roles.get(role, {}).get("Arn", f"arn:aws:iam::{ACCOUNT}:role/{role}"),
        "accountId": ACCOUNT,
        "userName": role,
    }
    attributes = {"creationDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "mfaAuthenticated": "false"}
    found = {"type": "AssumedRole", "principalId": f"AROALOCAL:{session}", "arn": principal, "accountId": ACCOUNT}
    return {**found, "accessKeyId": "ASIALOCAL", "sessionContext": {"sessionIssuer": issuer, "attributes": attributes}}


# --- Requests ---------------------------------------------------------------------------------------------------------


def _items(name: str, values: list[str]) -> Json:
    return {"items": [{name: value} for value in values]}


def _flag(text: str) -> bool:
    return text.lower() == "true"


def _present(params: Json, **names: str) -> Json:
    """Parameters under CloudTrail's names, those that were sent."""
    return {name: params[sent] for name, sent in names.items() if sent in params}


def _change_interface(params: Json) -> Json:
    found = _present(params, networkInterfaceId="NetworkInterfaceId")
    if groups := numbered(params, "SecurityGroupId"):
        found["groupSet"] = _items("groupId", groups)
    if "SourceDestCheck.Value" in params:
        found["sourceDestCheck"] = _flag(params["SourceDestCheck.Value"])
    return {**found, **_present(params, description="Description.Value")}


def _change_instance(params: Json) -> Json:
    found = _present(params, instanceId="InstanceId")
    if groups := numbered(params, "GroupId"):
        found["groupSet"] = _items("groupId", groups)
    for name in ("DisableApiTermination", "DisableApiStop", "SourceDestCheck", "EbsOptimized", "EnaSupport"):
        if f"{name}.Value" in params:
            found[name[0].lower() + name[1:]] = {"value": _flag(params[f"{name}.Value"])}
    for name in ("InstanceInitiatedShutdownBehavior", "InstanceType"):
        if f"{name}.Value" in params:
            found[name[0].lower() + name[1:]] = {"value": params[f"{name}.Value"]}
    return {**found, **_present(params, attribute="Attribute", value="Value")}


def _permissions(params: Json) -> list[Json]:
    found = []
    for n in sorted({m[1] for key in params if (m := re.match(r"IpPermissions\.(\d+)\.", key))}, key=int):
        at = f"IpPermissions.{n}"
        rule: Json = {"ipProtocol": params.get(f"{at}.IpProtocol", "-1")}
        for name, sent in (("fromPort", "FromPort"), ("toPort", "ToPort")):
            if f"{at}.{sent}" in params:
                rule[name] = int(params[f"{at}.{sent}"])
        for name, sent, key, inner in (
            ("groups", "Groups", "groupId", "GroupId"),
            ("ipRanges", "IpRanges", "cidrIp", "CidrIp"),
            ("ipv6Ranges", "Ipv6Ranges", "cidrIpv6", "CidrIpv6"),
            ("prefixListIds", "PrefixListIds", "prefixListId", "PrefixListId"),
        ):
            pattern = rf"{re.escape(at)}\.{sent}\.\d+\.{inner}"
            values = [value for sent_key, value in params.items() if re.fullmatch(pattern, sent_key)]
            rule[name] = _items(key, values) if values else {}
        found.append(rule)
    return found


def _change_group(params: Json) -> Json:
    found = _present(params, groupId="GroupId")
    if rules := _permissions(params):
        found["ipPermissions"] = {"items": rules}
    if ids := numbered(params, "SecurityGroupRuleId"):
        found["securityGroupRuleIds"] = _items("securityGroupRuleId", ids)
    return found


def _wrapped(action: str) -> Callable[[Json], Json]:
    """As it is sent: `IamInstanceProfile.Name` is `{"IamInstanceProfile": {"Name": …}}`; a list's items have a tag."""

    def shape(params: Json) -> Json:
        found: Json = {}
        for key, value in params.items():
            at = found
            *path, last = [part for part in key.split(".") if not part.isdigit()]
            for part in path:
                at = at.setdefault(part, {})
            at[last] = int(value) if last in ("FromPort", "ToPort") else value
            if any(part.isdigit() for part in key.split(".")):
                found[path[0]]["tag"] = 1
        return {f"{action}Request": found}

    return shape


def _instances(params: Json) -> Json:
    found = {"instancesSet": _items("instanceId", numbered(params, "InstanceId"))}
    return {**found, **({"force": _flag(params.get("Force", "false"))} if "Force" in params else {})}


def _stop(params: Json) -> Json:
    return {**_instances(params), "force": _flag(params.get("Force", "false"))}


def _share(params: Json) -> Json:
    found = _present(params, snapshotId="SnapshotId")
    for verb in ("Add", "Remove"):
        pattern = rf"CreateVolumePermission\.{verb}\.\d+\.(UserId|Group)"
        entries = [
            {match[1][0].lower() + match[1][1:]: value}
            for key, value in params.items()
            if (match := re.fullmatch(pattern, key))
        ]
        if entries:
            found.setdefault("createVolumePermission", {})[verb.lower()] = {"items": entries}
    return {**found, "attributeType": "CREATE_VOLUME_PERMISSION"}


def _standby(params: Json) -> Json:
    ids = [value for key, value in params.items() if re.fullmatch(r"InstanceIds\.member\.\d+", key)]
    found = {"instanceIds": ids, **_present(params, autoScalingGroupName="AutoScalingGroupName")}
    if "ShouldDecrementDesiredCapacity" in params:
        found["shouldDecrementDesiredCapacity"] = _flag(params["ShouldDecrementDesiredCapacity"])
    return found


def _attach(params: Json) -> Json:
    found = _present(params, networkInterfaceId="NetworkInterfaceId", instanceId="InstanceId")
    return {**found, "deviceIndex": int(params.get("DeviceIndex", "1"))}


_REQUESTS: dict[str, Callable[[Json], Json]] = {
    "AssociateIamInstanceProfile": _wrapped("AssociateIamInstanceProfile"),
    "AttachNetworkInterface": _attach,
    "AuthorizeSecurityGroupEgress": _change_group,
    "AuthorizeSecurityGroupIngress": _change_group,
    "DeleteSnapshot": lambda params: _present(params, snapshotId="SnapshotId"),
    "EnterStandby": _standby,
    "ExitStandby": _standby,
    "ModifyInstanceAttribute": _change_instance,
    "ModifyInstanceMetadataOptions": _wrapped("ModifyInstanceMetadataOptions"),
    "ModifyNetworkInterfaceAttribute": _change_interface,
    "ModifySecurityGroupRules": _wrapped("ModifySecurityGroupRules"),
    "ModifySnapshotAttribute": _share,
    "ReplaceIamInstanceProfileAssociation": _wrapped("ReplaceIamInstanceProfileAssociation"),
    "RevokeSecurityGroupEgress": _change_group,
    "RevokeSecurityGroupIngress": _change_group,
    "StopInstances": _stop,
    "TerminateInstances": _instances,
    "UnlockSnapshot": _wrapped("UnlockSnapshot"),
}
_NEWER = {
    "AssociateIamInstanceProfile",
    "ModifyInstanceMetadataOptions",
    "ModifySecurityGroupRules",
    "ReplaceIamInstanceProfileAssociation",
    "UnlockSnapshot",
}


# --- Responses --------------------------------------------------------------------------------------------------------


def _response(action: str, body: bytes, request_id: str) -> Json | None:
    """Out of EC2's XML: a list of `item` is `items`, `return` is `_return`. Auto Scaling's is left out."""
    if action in ("EnterStandby", "ExitStandby"):
        return None
    plain = _plain(ElementTree.fromstring(body))
    found = {"requestId": request_id, **{key: value for key, value in plain.items() if key != "requestId"}}
    if action in _NEWER:
        return {f"{action}Response": {"xmlns": _XMLNS, **found}}
    if "return" in found:
        found["_return"] = found.pop("return")
    return found


def _plain(element: ElementTree.Element) -> Any:
    children = list(element)
    names = [child.tag.rpartition("}")[2] for child in children]
    if names and set(names) == {"item"}:
        return {"items": [_plain(child) for child in children]}
    if children:
        return {name: _plain(child) for name, child in zip(names, children, strict=True)}
    text = element.text or ""
    return {"true": True, "false": False}.get(text, text)
