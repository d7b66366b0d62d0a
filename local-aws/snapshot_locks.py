"""Snapshot locks, which moto does not have: governance and compliance, and the refusal to delete.

Source: EBS User Guide, "Snapshot lock concepts" and "Considerations for Amazon EBS snapshot lock"; EC2 API reference,
LockSnapshot, UnlockSnapshot, DescribeLockedSnapshots. AWS writes down no error code for any of the refusals below but
NotFound: they are inferred from codes that EC2 has for alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ec2_rules import Params, Refusal, numbered, rule
from protections import refuse_dry_run

_MOST_DAYS = 36_500
_COOL_OFF_HOURS = range(1, 73)
_MODES = ("governance", "compliance")


@dataclass
class _Lock:
    mode: str
    days: int
    created: datetime
    cool_off_hours: int | None
    # The days begin when the snapshot is complete.
    started: datetime | None = None

    @property
    def expires(self) -> datetime | None:
        return None if self.started is None else self.started + timedelta(days=self.days)

    @property
    def state(self) -> str:
        if self.expires is not None and _now() >= self.expires:
            return "expired"
        if self.mode == "compliance" and self.cool_off_hours is not None:
            return (
                "compliance-cooloff" if _now() < self.created + timedelta(hours=self.cool_off_hours) else "compliance"
            )
        return self.mode


_locks: dict[str, _Lock] = {}


def _now() -> datetime:
    return datetime.now(UTC)


def lock_of(backend: Any, snapshot_id: str) -> _Lock | None:
    """The lock that keeps a snapshot from being deleted."""
    snapshot, lock = backend.snapshots.get(snapshot_id), _locks.get(snapshot_id)
    # The lock of a snapshot that fails is cancelled, and that of one that is gone is gone with it.
    if lock is None or snapshot is None or snapshot.status == "error":
        return None
    if lock.started is None and snapshot.status == "completed":
        lock.started = _now()
    return lock


def _snapshot(backend: Any, params: Params) -> Any:
    snapshot_id = params.get("SnapshotId", "")
    snapshot = backend.snapshots.get(snapshot_id)
    if snapshot is None:
        raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    return snapshot


@rule("LockSnapshot")
def _lock(backend: Any, params: Params) -> bytes:
    snapshot, mode = _snapshot(backend, params), params.get("LockMode", "")
    if mode not in _MODES:
        raise Refusal("InvalidParameterValue", f"Value ({mode}) for parameter LockMode is invalid.")
    if ("LockDuration" in params) == ("ExpirationDate" in params):
        raise Refusal("InvalidParameterCombination", "Specify either LockDuration or ExpirationDate.")
    days = int(params["LockDuration"]) if "LockDuration" in params else _days_until(params["ExpirationDate"])
    if not 1 <= days <= _MOST_DAYS:
        raise Refusal("InvalidParameterValue", f"Value ({days}) for parameter LockDuration is invalid.")
    cool_off = int(params["CoolOffPeriod"]) if "CoolOffPeriod" in params else None
    if cool_off is not None and (mode != "compliance" or cool_off not in _COOL_OFF_HOURS):
        raise Refusal("InvalidParameterValue", f"Value ({cool_off}) for parameter CoolOffPeriod is invalid.")
    if snapshot.status == "error":
        raise Refusal("IncorrectState", f"Snapshot {snapshot.id} is in state error.")
    before = lock_of(backend, snapshot.id)
    if before is not None and before.state == "compliance" and (mode != "compliance" or days < before.days):
        raise Refusal("OperationNotPermitted", f"The lock of {snapshot.id} can only be extended.")
    refuse_dry_run(params)
    started = before.started if before is not None and before.state != "expired" else None
    _locks[snapshot.id] = _Lock(mode, days, _now(), cool_off, started)
    lock = lock_of(backend, snapshot.id)
    assert lock is not None
    return f"<LockSnapshotResponse>{_shown(snapshot.id, lock)}</LockSnapshotResponse>".encode()


@rule("UnlockSnapshot")
def _unlock(backend: Any, params: Params) -> bytes:
    snapshot = _snapshot(backend, params)
    lock = lock_of(backend, snapshot.id)
    if lock is None or lock.state == "expired":
        raise Refusal("IncorrectState", f"Snapshot {snapshot.id} is not locked.")
    if lock.state == "compliance":
        raise Refusal("OperationNotPermitted", f"Snapshot {snapshot.id} is locked in compliance mode.")
    refuse_dry_run(params)
    del _locks[snapshot.id]
    return f"<UnlockSnapshotResponse><snapshotId>{snapshot.id}</snapshotId></UnlockSnapshotResponse>".encode()


@rule("DescribeLockedSnapshots")
def _describe(backend: Any, params: Params) -> bytes:
    asked = numbered(params, "SnapshotId")
    for snapshot_id in asked:
        _snapshot(backend, {"SnapshotId": snapshot_id})
    found = {snapshot_id: lock for snapshot_id in asked or _locks if (lock := lock_of(backend, snapshot_id))}
    states = next((numbered(params, f"Filter.{n}.Value") for n in (1,) if f"Filter.{n}.Name" in params), [])
    items = [_shown(i, lock) for i, lock in found.items() if not states or lock.state in states]
    text = "".join(f"<item>{item}</item>" for item in items)
    return (
        f"<DescribeLockedSnapshotsResponse><snapshotSet>{text}</snapshotSet></DescribeLockedSnapshotsResponse>".encode()
    )


@rule("DeleteSnapshot")
def _delete(backend: Any, params: Params) -> None:
    lock = lock_of(backend, params.get("SnapshotId", ""))
    if lock is not None and lock.state != "expired":
        raise Refusal("OperationNotPermitted", f"Snapshot {params['SnapshotId']} is locked and can't be deleted.")


def _days_until(date: str) -> int:
    return (datetime.fromisoformat(date.replace("Z", "+00:00")) - _now()).days + 1


def _shown(snapshot_id: str, lock: _Lock) -> str:
    times = {
        "lockCreatedOn": lock.created,
        "lockDurationStartTime": lock.started,
        "lockExpiresOn": lock.expires,
    }
    text = "".join(f"<{k}>{v:%Y-%m-%dT%H:%M:%S.000Z}</{k}>" for k, v in times.items() if v is not None)
    cool_off = "" if lock.cool_off_hours is None else f"<coolOffPeriod>{lock.cool_off_hours}</coolOffPeriod>"
    return (
        f"<snapshotId>{snapshot_id}</snapshotId><lockState>{lock.state}</lockState>"
        f"<lockDuration>{lock.days}</lockDuration>{cool_off}{text}"
    )
