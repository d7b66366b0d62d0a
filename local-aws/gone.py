"""What goes away just before a call that a test chooses (`PUT /_local/gone`): the race between a look and a change.

Another person or service does it, so nothing of the function's client is asked, and no protection is in the way. What
nobody could remove is not removed: a group in use, the primary interface or the root volume of a running instance.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import moto_ec2
from control import Json, called_by, route

logger = logging.getLogger("local_aws.gone")


@dataclass
class _Departure:
    """A resource that goes before the nth call, counted from now, of an action."""

    id: str
    action: str
    call: int
    entirely: bool
    app: str | None
    seen: int = 0
    outcome: str | None = None


_departures: list[_Departure] = []


def before(action: str, user_agent: str) -> None:
    """Called before each call of the API: remove what goes just before this one."""
    for departure in _departures:
        if departure.action != action or not called_by(departure.app, user_agent):
            continue
        departure.seen += 1
        if departure.seen == departure.call:
            departure.outcome = _remove(departure)
            logger.info("%s: %s before %s", departure.id, departure.outcome, action)


def _remove(departure: _Departure) -> str:
    removal = _REMOVALS[departure.id.partition("-")[0]]
    if removal is _delete_group:
        return _delete_group(departure)
    with moto_ec2.lock:
        try:
            removal(moto_ec2.backend(), departure)
        except KeyError:
            return "was not there"
    return "gone"


def _terminate(backend: Any, departure: _Departure) -> None:
    """A terminated instance stays visible for about an hour (DescribeInstances, API reference), unless `entirely`."""
    if backend.get_instance_by_id(departure.id) is None:
        raise KeyError(departure.id)
    backend.terminate_instances([departure.id])
    if departure.entirely:
        for reservation in list(backend.reservations.values()):
            reservation.instances = [instance for instance in reservation.instances if instance.id != departure.id]
            if not reservation.instances:
                del backend.reservations[reservation.id]


def _delete_interface(backend: Any, departure: _Departure) -> None:
    interface = backend.enis[departure.id]
    if interface.instance is not None:
        interface.instance.detach_eni(interface)
    del backend.enis[departure.id]


def _delete_volume(backend: Any, departure: _Departure) -> None:
    volume = backend.volumes.pop(departure.id)
    for attachment in volume.attachments:
        mapping = attachment.instance.block_device_mapping
        for device in [name for name, mapped in mapping.items() if mapped.volume_id == departure.id]:
            del mapping[device]


def _delete_snapshot(backend: Any, departure: _Departure) -> None:
    del backend.snapshots[departure.id]


def _delete_group(departure: _Departure) -> str:
    status, answer = moto_ec2.perform({"Action": "DeleteSecurityGroup", "GroupId": departure.id})
    return "gone" if status == 200 else answer.decode().partition("<Code>")[2].partition("</Code>")[0]


def _is_vital(backend: Any, resource_id: str) -> bool:
    """What nobody can take from an instance that runs."""
    instances = [instance for instance in backend.all_instances() if instance.state == "running"]
    primaries = {instance.nics[0].id for instance in instances if 0 in instance.nics}
    roots = {
        device.volume_id
        for instance in instances
        for name, device in instance.get_block_device_mapping
        if name == instance.root_device_name
    }
    return resource_id in primaries | roots


_REMOVALS: dict[str, Callable[..., Any]] = {
    "eni": _delete_interface,
    "i": _terminate,
    "sg": _delete_group,
    "snap": _delete_snapshot,
    "vol": _delete_volume,
}


# --- Control ----------------------------------------------------------------------------------------------------------


@route("PUT", "gone")
def _gone(body: Json, _query: dict[str, list[str]]) -> list[Json]:
    if not body:
        _departures.clear()
        return []
    departure = _Departure(
        id=str(body["id"]),
        action=str(body["action"]),
        call=int(body.get("call", 1)),
        entirely=bool(body.get("entirely", False)),
        app=body.get("app"),
    )
    if departure.id.partition("-")[0] not in _REMOVALS:
        raise ValueError("id must be that of an instance, an interface, a group, a volume or a snapshot")
    if _is_vital(moto_ec2.backend(), departure.id):
        raise ValueError("a primary interface or a root volume goes with its instance")
    _departures.append(departure)
    return _state({}, {})


@route("GET", "gone")
def _state(_body: Json, _query: dict[str, list[str]]) -> list[Json]:
    return [vars(departure) for departure in _departures]
