"""Groups that may be used in other VPCs than the one they were made in; moto knows nothing of it.

Source: the API reference of the three calls. It names no error codes, so those below are inferences. An association is
there at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import paging
from ec2_rules import Params, Refusal, afterwards, associated_vpcs, numbered, rule
from protections import refuse_dry_run


@dataclass
class _Association:
    group_id: str
    vpc_id: str
    state: str

    @property
    def id(self) -> str:
        return f"{self.group_id} {self.vpc_id}"


@rule("AssociateSecurityGroupVpc")
def _associate(backend: Any, params: Params) -> bytes:
    group, vpc_id = _group(backend, params), _vpc_id(backend, params)
    if group.name == "default" or vpc_id == group.vpc_id:
        # "You cannot use this feature with default security groups"
        raise Refusal("InvalidParameterValue", f"The security group '{group.id}' can not be associated with '{vpc_id}'")
    if backend.vpcs[vpc_id].is_default:
        # "You cannot use this feature with the default VPC"
        raise Refusal("InvalidParameterValue", f"The vpc ID '{vpc_id}' is a default VPC")
    refuse_dry_run(params)
    associated_vpcs.setdefault(group.id, {})[vpc_id] = "associated"
    return _answer("AssociateSecurityGroupVpc", "<state>associated</state>")


@rule("DisassociateSecurityGroupVpc")
def _disassociate(backend: Any, params: Params) -> bytes:
    group, vpc_id = _group(backend, params), _vpc_id(backend, params)
    if vpc_id not in associated_vpcs.get(group.id, {}):
        raise Refusal("InvalidParameterValue", f"The security group '{group.id}' is not associated with '{vpc_id}'")
    for interface in backend.enis.values():
        if interface.subnet.vpc_id == vpc_id and group in interface._group_set:
            # "You cannot disassociate the security group if any Elastic network interfaces in the associated VPC are
            # still associated with the security group"
            raise Refusal("DependencyViolation", f"resource {group.id} has a dependent object")
    refuse_dry_run(params)
    del associated_vpcs[group.id][vpc_id]
    return _answer("DisassociateSecurityGroupVpc", "<state>disassociated</state>")


@rule("DescribeSecurityGroupVpcAssociations")
def _describe(backend: Any, params: Params) -> bytes:
    filters = {params[f"{key[:-5]}.Name"]: numbered(params, f"{key[:-5]}.Value") for key in params if _is_filter(key)}
    found = [
        _Association(group_id, vpc_id, state)
        for group_id, vpcs in associated_vpcs.items()
        for vpc_id, state in vpcs.items()
        if group_id in filters.get("group-id", [group_id])
        and vpc_id in filters.get("vpc-id", [vpc_id])
        and state in filters.get("state", [state])
    ]
    size = params.get("MaxResults")
    page, token = paging.cut(found, int(size) if size else None, params.get("NextToken"))
    items = "".join(
        f"<item><groupId>{association.group_id}</groupId><groupOwnerId>{backend.account_id}</groupOwnerId>"
        f"<vpcId>{association.vpc_id}</vpcId><vpcOwnerId>{backend.account_id}</vpcOwnerId>"
        f"<state>{association.state}</state></item>"
        for association in page
    )
    following = f"<nextToken>{token}</nextToken>" if token else ""
    return _answer(
        "DescribeSecurityGroupVpcAssociations",
        f"<securityGroupVpcAssociationSet>{items}</securityGroupVpcAssociationSet>{following}",
    )


@afterwards("DeleteSecurityGroup")
def _forget(_backend: Any, params: Params, _answer: bytes) -> None:
    associated_vpcs.pop(params.get("GroupId", ""), None)


def _is_filter(key: str) -> bool:
    return key.startswith("Filter.") and key.endswith(".Name")


def _group(backend: Any, params: Params) -> Any:
    group = backend.get_security_group_from_id(params.get("GroupId", ""))
    if group is None:
        # API errors: InvalidGroup.NotFound
        raise Refusal("InvalidGroup.NotFound", f"The security group '{params.get('GroupId')}' does not exist")
    return group


def _vpc_id(backend: Any, params: Params) -> str:
    if (vpc_id := params.get("VpcId", "")) not in backend.vpcs:
        # API errors: InvalidVpcID.NotFound
        raise Refusal("InvalidVpcID.NotFound", f"The vpc ID '{vpc_id}' does not exist")
    return vpc_id


def _answer(action: str, content: str) -> bytes:
    return f"<{action}Response>{content}</{action}Response>".encode()
