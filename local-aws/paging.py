"""Pages of EC2's Describe calls, and the calls that EC2 refuses for asking too much at once.

moto pages DescribeInstances only, by 100 and also where ids are named. Reservations are never cut, so a page of
instances counts reservations. A page shows what is left of the first page's list: what came since is not in it, what
went since is not missed twice.
"""

from __future__ import annotations

import uuid
from typing import Any

from control import Json, knobs, route
from ec2_rules import Params, Refusal, numbered

MIN_RESULTS, MAX_RESULTS = 5, 1000
# The parameter with the ids, and whether it excludes MaxResults, with EC2's name for it then.
_IDS = {
    "DescribeInstances": ("InstanceId", "instancesSet"),
    "DescribeInstanceStatus": ("InstanceId", "instancesSet"),
    "DescribeNetworkInterfaces": ("NetworkInterfaceId", "networkInterfaceIdSet"),
    "DescribeSecurityGroups": ("GroupId", None),
    "DescribeSecurityGroupVpcAssociations": ("", None),
    "DescribeSnapshots": ("SnapshotId", None),
    "DescribeVolumes": ("VolumeId", "volumeSet"),
}
# DescribeNetworkInterfaces, API reference: "the operation fails unless you use pagination or one of the following
# filters". DescribeSecurityGroups knows no such filters.
_QUALIFYING_FILTERS = {
    "DescribeNetworkInterfaces": {
        "group-id",
        "mac-address",
        "private-dns-name",
        "private-ip-address",
        "subnet-id",
        "vpc-id",
    },
    "DescribeSecurityGroups": set(),
}
# What the pages after a token show: ids, in order.
_pages: dict[str, list[str]] = {}


def admit(params: Params) -> None:
    """Refuse a call that asks for too much or too little at once; shorten its page where a test wants short ones."""
    action = params.get("Action", "")
    if action not in _IDS:
        return
    parameter, exclusive = _IDS[action]
    named, size, token = numbered(params, parameter), params.get("MaxResults"), params.get("NextToken")
    if knobs.refuse_unpaginated and size is None and token is None and not named and not _qualified(action, params):
        # hashicorp/terraform-provider-aws#38841 (groups), aws/amazon-vpc-resource-controller-k8s#188 (interfaces)
        raise Refusal("OperationNotPermitted", "Unpaginated and unqualified requests are not permitted")
    if size is not None and named and exclusive:
        # DescribeInstances, DescribeNetworkInterfaces, API reference; aws-cli#1976 has the text, for volumes
        raise Refusal(
            "InvalidParameterCombination",
            f"The parameter {exclusive} cannot be used with the parameter maxResults",
        )
    if size is not None and int(size) < MIN_RESULTS:
        # aws-sdk-ruby#2575
        raise Refusal(
            "InvalidParameterValue",
            f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value greater than {MIN_RESULTS}.",
        )
    if token is not None and token not in _pages:
        # API errors: InvalidPaginationToken
        raise Refusal("InvalidPaginationToken", "The specified pagination token is not valid or is expired.")
    if knobs.page_size and not named:
        params["MaxResults"] = str(min(int(size or MAX_RESULTS), knobs.page_size))


def _qualified(action: str, params: Params) -> bool:
    names = {value for key, value in params.items() if key.startswith("Filter.") and key.endswith(".Name")}
    return action not in _QUALIFYING_FILTERS or bool(names & _QUALIFYING_FILTERS[action])


def cut(found: list[Any], size: int | None, token: str | None) -> tuple[list[Any], str | None]:
    """The page of what was found that a call asks for, and the token of the next one."""
    by_id = {item.id: item for item in found}
    ids = [item_id for item_id in _pages[token] if item_id in by_id] if token else list(by_id)
    size = min(size, MAX_RESULTS) if size else len(ids)
    page, rest = ids[:size], ids[size:]
    following = uuid.uuid4().hex if rest else None
    if following:
        _pages[following] = rest
    return [by_id[item_id] for item_id in page], following


@route("PUT", "page-size")
def _page_size(body: Json, _query: dict[str, list[str]]) -> Json:
    knobs.page_size = None if body["size"] is None else max(1, int(body["size"]))
    return {"size": knobs.page_size}


@route("PUT", "unpaginated")
def _unpaginated(body: Json, _query: dict[str, list[str]]) -> Json:
    knobs.refuse_unpaginated = bool(body["refused"])
    return {"refused": knobs.refuse_unpaginated}
