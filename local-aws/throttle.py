"""EC2's request throttling, off unless a test asks for it (`PUT /_local/throttle`): a token bucket per action.

Source: EC2 developer guide, "Request throttling for the Amazon EC2 API", request token buckets. Whether a call is
throttled before it is authorised is not documented; here it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from control import Json, route
from ec2_rules import Params, Refusal

# Bucket size and refill per second.
_UNCATEGORISED = {
    "AssociateIamInstanceProfile": (100, 5),
    "CreateLaunchTemplateVersion": (100, 5),
    "CreateNetworkInterface": (100, 5),
    "CreateSnapshot": (100, 5),
    "CreateSnapshots": (100, 5),
    "CreateTags": (100, 10),
    "CreateVolume": (100, 5),
    "DeleteNetworkInterface": (100, 5),
    "DeleteSnapshot": (100, 5),
    "DeleteTags": (100, 10),
    "DeleteVolume": (100, 5),
    "DisassociateIamInstanceProfile": (100, 5),
    "ModifyInstanceMetadataOptions": (100, 5),
    "ModifyNetworkInterfaceAttribute": (100, 5),
    "RunInstances": (5, 2),
    "StartInstances": (5, 2),
    "TerminateInstances": (100, 5),
}
_NON_MUTATING = (100, 20)
_UNFILTERED = (50, 10)
_MUTATING = (50, 5)
# The non-mutating actions that have a smaller bucket for calls with neither filter nor pagination.
_SMALLER_UNFILTERED = {
    "DescribeInstances",
    "DescribeInstanceStatus",
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeSnapshots",
    "DescribeSpotInstanceRequests",
    "DescribeTags",
    "DescribeVolumes",
}


@dataclass
class _Bucket:
    """Tokens of one kind of call; starts full."""

    size: float
    refill: float
    tokens: float = field(init=False)
    at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.tokens = self.size

    def take(self) -> bool:
        now = time.monotonic()
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.refill)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


# None while throttling is off.
_buckets: dict[tuple[str, tuple[int, int]], _Bucket] | None = None


def take(params: Params) -> None:
    """One call by the account: refuse it where its bucket is empty."""
    if _buckets is None:
        return
    action = params.get("Action", "")
    limits = _limits(action, params)
    if not _buckets.setdefault((action, limits), _Bucket(*limits)).take():
        # API errors: RequestLimitExceeded
        raise Refusal("RequestLimitExceeded", "Request limit exceeded.", 503)


def _limits(action: str, params: Params) -> tuple[int, int]:
    if action in _UNCATEGORISED:
        return _UNCATEGORISED[action]
    if not action.startswith(("Describe", "List", "Search", "Get")):
        return _MUTATING
    narrowed = any(key.startswith("Filter.") or key in ("MaxResults", "NextToken") for key in params)
    return _UNFILTERED if action in _SMALLER_UNFILTERED and not narrowed else _NON_MUTATING


@route("PUT", "throttle")
def _throttle(body: Json, _query: dict[str, list[str]]) -> Json:
    global _buckets
    _buckets = {} if body.get("on", False) else None
    return {"on": _buckets is not None}
