"""What AWS has scheduled for instances. moto shows an instance's status without any."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

import paging
from control import Json, route
from ec2_rules import Params, numbered, rule, state_of

# EC2 API reference, InstanceStatusEvent, Code
CODES = ("instance-reboot", "system-reboot", "system-maintenance", "instance-retirement", "instance-stop")
_events: dict[str, list[Json]] = {}


def _filters(params: Params) -> dict[str, list[str]]:
    names = {key.removesuffix(".Name"): value for key, value in params.items() if key.endswith(".Name")}
    return {value: numbered(params, f"{key}.Value") for key, value in names.items() if key.startswith("Filter.")}


@rule("DescribeInstanceStatus")
def _describe(backend: Any, params: Params) -> bytes | None:
    """The instances that have an event of these codes; what else the call can show is moto's."""
    codes = _filters(params).get("event.code")
    if codes is None:
        return None
    # API reference, IncludeAllInstances: else running instances only
    is_shown = params.get("IncludeAllInstances") == "true"
    found = [
        instance
        for instance in backend.all_instances()
        if any(event["code"] in codes for event in _events.get(instance.id, []))
        and (is_shown or state_of(instance) == "running")
    ]
    size = params.get("MaxResults")
    page, token = paging.cut(found, int(size) if size else None, params.get("NextToken"))
    items = "".join(_item(instance, codes) for instance in page)
    following = f"<nextToken>{token}</nextToken>" if token else ""
    return (
        f"<DescribeInstanceStatusResponse><instanceStatusSet>{items}</instanceStatusSet>{following}"
        "</DescribeInstanceStatusResponse>"
    ).encode()


def _item(instance: Any, codes: list[str]) -> str:
    events = [event for event in _events[instance.id] if event["code"] in codes]
    shown = "".join(
        "<item>" + "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in event.items()) + "</item>"
        for event in events
    )
    return f"<item><instanceId>{instance.id}</instanceId><eventsSet>{shown}</eventsSet></item>"


@route("PUT", "scheduled-events")
def _set_events(body: Json, _query: dict[str, list[str]]) -> Json:
    """`events` are objects of `code`, `description` and `notBefore`."""
    for event in body["events"]:
        if event["code"] not in CODES:
            raise ValueError(f"{event['code']} is no code of EC2's")
    _events[body["instance"]] = list(body["events"])
    return {"instance": body["instance"], "events": len(_events[body["instance"]])}
