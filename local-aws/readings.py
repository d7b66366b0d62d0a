"""What EC2's Describe calls show: page by page, without managed resources, and without what a test hides for a while.

EC2 is eventually consistent (EC2 developer guide, "Eventual consistency"): a reading may leave out what is there. A
call that names what is left out says NotFound, or leaves it out as well; a test says which.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2 import utils
from moto.ec2.models.instances import Instance, Reservation
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupRule
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.ec2.responses.elastic_network_interfaces import ElasticNetworkInterfaces
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.security_groups import SecurityGroups

import paging
from control import Json, called_by, route
from ec2_rules import Params, Refusal, numbered

# The parameter that names what a call shows, and what EC2 says of one that it does not know: API errors.
_NOT_FOUND = {
    "DescribeInstances": ("InstanceId", "InvalidInstanceID.NotFound", "instance ID"),
    "DescribeNetworkInterfaces": ("NetworkInterfaceId", "InvalidNetworkInterfaceID.NotFound", "networkInterface ID"),
    "DescribeSecurityGroups": ("GroupId", "InvalidGroup.NotFound", "security group"),
    "DescribeSnapshots": ("SnapshotId", "InvalidSnapshot.NotFound", "snapshot"),
    "DescribeVolumes": ("VolumeId", "InvalidVolume.NotFound", "volume"),
    "DescribeSecurityGroupRules": ("", "", ""),
}


@dataclass
class _Hidden:
    """What readings of one action leave out: a resource, or the rules of a group, for a time or a number of calls."""

    id: str
    action: str
    only_rules: bool
    refused: bool
    app: str | None
    until: float
    calls: float


@dataclass
class Omissions:
    """What one call leaves out."""

    ids: set[str] = field(default_factory=set)
    rules_of: set[str] = field(default_factory=set)


_hidden: list[_Hidden] = []
# Instances and interfaces that a service of AWS runs for the account, EKS for one.
_managed: set[str] = set()
# What the call that runs leaves out; moto_ec2 runs one at a time.
_omitted = Omissions()


def omissions(params: Params, user_agent: str) -> Omissions:
    """What this call leaves out; counts it. Refuses it where it names what must not be found."""
    action = params.get("Action", "")
    found = Omissions()
    if action not in _NOT_FOUND:
        return found
    parameter, code, kind = _NOT_FOUND[action]
    named = numbered(params, parameter) if parameter else []
    if params.get("IncludeManagedResources") != "true":
        # DescribeInstances, API reference: IncludeManagedResources. That a named one is unknown then is an inference.
        found.ids |= _managed
    unknown = found.ids & set(named)
    for hidden in [hidden for hidden in _hidden if hidden.action == action and called_by(hidden.app, user_agent)]:
        if time.monotonic() > hidden.until or hidden.calls <= 0:
            _hidden.remove(hidden)
            continue
        hidden.calls -= 1
        (found.rules_of if hidden.only_rules else found.ids).add(hidden.id)
        if hidden.refused and not hidden.only_rules and hidden.id in named:
            unknown.add(hidden.id)
    for resource_id in sorted(unknown):
        raise Refusal(code, f"The {kind} '{resource_id}' does not exist")
    return found


def leave_out(omitted: Omissions) -> None:
    """Say what the next call leaves out."""
    global _omitted
    _omitted = omitted


# --- Repairs of moto's answers ----------------------------------------------------------------------------------------


def repair_moto() -> None:
    """Make moto's Describe calls show what EC2's do. Call once, after the repairs of `ec2_rules`."""
    utils.is_filter_matching = _any_value_matches(utils.is_filter_matching)
    InstanceResponse.describe_instances = _shown(_describe_instances, "Reservations")
    for responses, method, member in (
        (ElasticNetworkInterfaces, "describe_network_interfaces", "NetworkInterfaces"),
        (ElasticBlockStore, "describe_snapshots", "Snapshots"),
        (ElasticBlockStore, "describe_volumes", "Volumes"),
        (SecurityGroups, "describe_security_groups", "SecurityGroups"),
        (SecurityGroups, "describe_security_group_rules", "SecurityGroupRules"),
    ):
        setattr(responses, method, _shown(getattr(responses, method), member))
    plain = Instance.network_interfaces.fget
    Instance.network_interfaces = property(
        lambda instance: [nic for nic in plain(instance) if nic.id not in _omitted.ids]
    )
    for name in ("ip_permissions", "ip_permissions_egress"):
        setattr(SecurityGroup, name, property(_unless_omitted(getattr(SecurityGroup, name))))


def _any_value_matches(original: Callable[[Any, str, Any], bool]) -> Callable[[Any, str, Any], bool]:
    """Several values of one filter are joined with OR (EC2 user guide, "Filter your resources"); moto wants all."""

    def is_matching(item: Any, name: str, values: Any) -> bool:
        if isinstance(values, list) and len(values) > 1:
            return any(original(item, name, [value]) for value in values)
        return original(item, name, values)

    return is_matching


def _shown(original: Callable[[Any], Any], member: str) -> Callable[[Any], Any]:
    def describe(response: Any) -> Any:
        result = original(response)
        size, token = response._get_int_param("MaxResults"), response._get_param("NextToken")
        found = _without_omitted(result.result[member], response._filters_from_querystring())
        result.result[member], result.result["NextToken"] = paging.cut(found, size, token)
        return result

    return describe


def _describe_instances(response: Any) -> Any:
    """moto's, which pages on its own, without the pages."""
    response.error_on_dryrun()
    ids, filters = response._get_param("InstanceIds", []), response._filters_from_querystring()
    if ids:
        return ActionResult({"Reservations": response.ec2_backend.get_reservations_by_instance_ids(ids, filters)})
    return ActionResult({"Reservations": response.ec2_backend.describe_instances(filters)})


def _without_omitted(found: list[Any], filters: dict[str, Any]) -> list[Any]:
    by_rule = any("ip-permission." in name for name in filters)
    for reservation in [item for item in found if isinstance(item, Reservation)]:
        # A copy already: moto filters them so, too.
        reservation.instances = [instance for instance in reservation.instances if instance.id not in _omitted.ids]
    return [item for item in found if not _is_omitted(item, by_rule)]


def _is_omitted(item: Any, by_rule: bool) -> bool:
    if isinstance(item, Reservation):
        return not item.instances
    if isinstance(item, SecurityGroupRule):
        return item.group_id in _omitted.rules_of
    # A group is not found by rules that are not seen.
    return item.id in _omitted.ids or (by_rule and item.id in _omitted.rules_of)


def _unless_omitted(original: property) -> Callable[[Any], Any]:
    return lambda group: [] if group.id in _omitted.rules_of else original.fget(group)  # type: ignore[misc]


# --- Control ----------------------------------------------------------------------------------------------------------


@route("PUT", "hide")
def _hide(body: Json, _query: dict[str, list[str]]) -> list[Json]:
    if not body:
        _hidden.clear()
        return []
    if body["action"] not in _NOT_FOUND:
        raise ValueError(f"action must be one of {', '.join(_NOT_FOUND)}")
    _hidden.append(
        _Hidden(
            id=str(body["id"]),
            action=body["action"],
            only_rules=bool(body.get("only_rules", body["action"] == "DescribeSecurityGroupRules")),
            refused=bool(body.get("refused", True)),
            app=body.get("app"),
            until=time.monotonic() + float(body.get("seconds", "inf")),
            calls=float(body.get("calls", "inf")),
        )
    )
    return _still_hidden({}, {})


@route("GET", "hide")
def _still_hidden(_body: Json, _query: dict[str, list[str]]) -> list[Json]:
    now = time.monotonic()
    return [
        {
            "id": hidden.id,
            "action": hidden.action,
            "seconds": None if hidden.until == float("inf") else round(hidden.until - now, 3),
            "calls": None if hidden.calls == float("inf") else int(hidden.calls),
        }
        for hidden in _hidden
        if now <= hidden.until and hidden.calls > 0
    ]


def set_managed(resource: Any, managed: bool) -> None:
    """Mark an instance or an interface of moto's as run, and hidden, by a service of AWS; or take the mark off."""
    (_managed.add if managed else _managed.discard)(resource.id)
    operator = {"Managed": True, "Principal": "eks.amazonaws.com", "HiddenByDefault": True}
    resource.operator = operator if managed else {"Managed": False}


def is_managed(resource_id: str) -> bool:
    return resource_id in _managed
