"""Volumes of snapshots, and copies of snapshots for other accounts: what EC2 refuses, and how what is begun ends.

moto makes everything at once, of snapshots in any state, and attaches any volume to any instance. "API errors" is the
EC2 API reference page "Error codes for the Amazon EC2 API".
"""

from __future__ import annotations

import re
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.models.elastic_block_store import Snapshot

from control import Json, route
from ec2_rules import TERMINAL, Params, Refusal, afterwards, instance_by_id, rule, state_of

ACCOUNT_KEYS = "arn:aws:kms:us-east-1:123456789012:key/"
# The key that AWS manages for EBS, as the account's default.
DEFAULT_KEY = ACCOUNT_KEYS + "00000000-0000-0000-0000-0000000000eb"
NO_VOLUME = "vol-ffffffff"  # of a copy: "an arbitrary volume ID" (API reference, Snapshot, VolumeId); this one inferred
MAX_COPIES = 20  # EBS user guide, "Copy a snapshot": concurrent copies to one destination Region
MAX_ATTACHED = 28  # EC2 user guide, "EBS volume limits": shared with interfaces, for most types of the Nitro system
READS = 1  # so many readings show a copy as pending
_bad_keys: set[str] = set()
# What a test wants a snapshot to be: state, percent, message.
_states: dict[str, tuple[str, int, str]] = {}
# Copies, with the readings that still show them as pending.
_copies: dict[str, int] = {}


def _snapshot(backend: Any, snapshot_id: str) -> Any:
    snapshot = backend.snapshots.get(snapshot_id)
    if snapshot is None:
        # API errors: InvalidSnapshot.NotFound
        raise Refusal("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    return snapshot


def _completed(backend: Any, snapshot_id: str) -> Any:
    snapshot = _snapshot(backend, snapshot_id)
    if snapshot.status != "completed":
        # velero-io/velero#1799 has the circumstance; API errors: IncorrectState
        raise Refusal("IncorrectState", f"Snapshot is in invalid state - {snapshot.status}")
    return snapshot


def _volume(backend: Any, volume_id: str) -> Any:
    volume = backend.volumes.get(volume_id)
    if volume is None:
        # API errors: InvalidVolume.NotFound
        raise Refusal("InvalidVolume.NotFound", f"The volume '{volume_id}' does not exist.")
    return volume


# --- Volumes ----------------------------------------------------------------------------------------------------------


@rule("CreateVolume")
def _create(backend: Any, params: Params) -> None:
    zone = params.get("AvailabilityZone", "")
    if all(zone != known.name for known in backend.describe_availability_zones()):
        # API errors: InvalidZone.NotFound
        raise Refusal("InvalidZone.NotFound", f"The zone '{zone}' does not exist.")
    if "SnapshotId" in params:
        _completed(backend, params["SnapshotId"])


@afterwards("CreateVolume")
def _created(backend: Any, _params: Params, answer: bytes) -> None:
    found = re.search(rb"<volumeId>([^<]+)</volumeId>", answer)
    volume = backend.volumes.get(found[1].decode()) if found else None
    if volume is not None and volume.kms_key_id in _bad_keys:
        # aws/aws-cli#2592, kubernetes-sigs/aws-ebs-csi-driver#2685, kubernetes/kubernetes#62171: the call succeeds
        del backend.volumes[volume.id]


@rule("AttachVolume")
def _attach(backend: Any, params: Params) -> None:
    instance = instance_by_id(backend, params.get("InstanceId", ""))
    volume = _volume(backend, params.get("VolumeId", ""))
    device = params.get("Device", "")
    if volume.attachment is not None:
        # API errors: VolumeInUse
        raise Refusal("VolumeInUse", f"{volume.id} is already attached to an instance")
    if state_of(instance) in TERMINAL:
        # ansible-collections/amazon.aws#497
        raise Refusal("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
    if volume.zone.name != instance._placement.zone:
        # API errors: InvalidVolume.ZoneMismatch
        raise Refusal("InvalidVolume.ZoneMismatch", f"The volume '{volume.id}' is not in the same availability zone")
    if not re.fullmatch(r"/dev/(sd[a-z]\d*|xvd[a-z]{1,2})", device):
        # base2genomics/batchit#15
        text = f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name."
        raise Refusal("InvalidParameterValue", text)
    if device in instance.block_device_mapping:
        # rexray/rexray#425
        text = f"Invalid value '{device}' for unixDevice. Attachment point {device} is already in use"
        raise Refusal("InvalidParameterValue", text)
    if len(instance.block_device_mapping) + len(instance.nics) >= MAX_ATTACHED:
        # API reference, AttachVolume: "the attachment request fails with the AttachmentLimitExceeded error"
        raise Refusal("AttachmentLimitExceeded", f"You have exceeded the volume attachment limit for {instance.id}")


@rule("DetachVolume")
def _detach(backend: Any, params: Params) -> None:
    attachment = _volume(backend, params.get("VolumeId", "")).attachment
    if attachment is None:
        # kubernetes-sigs/aws-ebs-csi-driver#1801
        raise Refusal("IncorrectState", f"Volume '{params['VolumeId']}' is in the 'available' state.")
    # DetachVolume, API reference: the volume alone is enough; moto wants the rest
    params.setdefault("InstanceId", attachment.instance.id)
    params.setdefault("Device", attachment.device)


@rule("DeleteVolume")
def _delete(backend: Any, params: Params) -> None:
    volume = _volume(backend, params.get("VolumeId", ""))
    if volume.attachment is not None:
        # API reference, DeleteVolume: it must be available; API errors: VolumeInUse
        raise Refusal("VolumeInUse", f"Volume {volume.id} is currently attached to {volume.attachment.instance.id}")


# --- Copies -----------------------------------------------------------------------------------------------------------


@rule("CopySnapshot")
def _copy(backend: Any, params: Params) -> None:
    _completed(backend, params.get("SourceSnapshotId", ""))
    if sum(1 for reads in _copies.values() if reads > 0) >= MAX_COPIES:
        # aws-samples/copy-encrypted-ami#3 has code and text, from when the limit was 5
        text = f"Too many snapshot copies in progress. The limit is {MAX_COPIES} for this destination region."
        raise Refusal("ResourceLimitExceeded", text)
    if key := params.get("KmsKeyId"):
        params["KmsKeyId"] = key if key.startswith("arn:") else ACCOUNT_KEYS + key


@afterwards("CopySnapshot")
def _copied(backend: Any, params: Params, answer: bytes) -> None:
    """A bad key does not fail the call: CopySnapshot, API reference, KmsKeyId; aws-samples/aws-backup-automation#2."""
    if (found := re.search(rb"<snapshotId>([^<]+)</snapshotId>", answer)) is None:
        return
    snapshot = backend.snapshots[found[1].decode()]
    snapshot.encrypted = snapshot.encrypted or params.get("Encrypted") == "true"
    _copies[snapshot.id] = READS
    if params.get("KmsKeyId") in _bad_keys:
        _states[snapshot.id] = ("error", 0, "Given key ID is not accessible")


@afterwards("DescribeSnapshots")
def _read(_backend: Any, _params: Params, answer: bytes) -> None:
    for snapshot_id in [name for name in _copies if name.encode() in answer]:
        _copies[snapshot_id] = max(0, _copies[snapshot_id] - 1)


@rule("ModifySnapshotAttribute")
def _share(backend: Any, params: Params) -> None:
    snapshot = _completed(backend, params.get("SnapshotId", ""))
    if snapshot.encrypted and snapshot.kms_key_id in (None, DEFAULT_KEY):
        # API reference, ModifySnapshotAttribute: "cannot be shared"; hashicorp/packer#7499 has code and text
        raise Refusal("OperationNotPermitted", "Encrypted snapshots with EBS default key cannot be shared")


# --- Repairs of moto's model ------------------------------------------------------------------------------------------


def repair_moto() -> None:
    """Make moto show snapshots as EC2 does: their state, their key, and whose copies they are."""
    Snapshot.status = property(_shown_state, lambda _snapshot, _state: None)
    Snapshot.progress = property(lambda snapshot: f"{_states.get(snapshot.id, ('', 100, ''))[1]}%")
    Snapshot.state_message = property(lambda snapshot: _states.get(snapshot.id, ("", 0, None))[2])
    Snapshot.completion_time = property(lambda snapshot: utcnow() if snapshot.status == "completed" else None)
    Snapshot.volume_id = property(lambda snapshot: NO_VOLUME if snapshot.id in _copies else snapshot.volume.id)
    Snapshot.kms_key_id = property(_shown_key, lambda snapshot, key: snapshot.__dict__.update(own_key=key))


def _shown_state(snapshot: Any) -> str:
    if _copies.get(snapshot.id, 0) > 0:
        return "pending"
    return _states.get(snapshot.id, ("completed", 100, ""))[0]


def _shown_key(snapshot: Any) -> str | None:
    if not snapshot.encrypted:
        return None
    return snapshot.__dict__.get("own_key") or snapshot.volume.kms_key_id or DEFAULT_KEY


# --- Control ----------------------------------------------------------------------------------------------------------


@route("PUT", "snapshot")
def _set_snapshot(body: Json, _query: dict[str, list[str]]) -> Json:
    if body.get("state") is None:
        _states.pop(body["id"], None)
    else:
        _states[body["id"]] = (str(body["state"]), int(body.get("percent", 0)), str(body.get("message", "")))
    return {"id": body["id"], "state": _states.get(body["id"], ("completed",))[0]}


@route("PUT", "bad-keys")
def _set_bad_keys(body: Json, _query: dict[str, list[str]]) -> Json:
    _bad_keys.clear()
    _bad_keys.update(body.get("keys", []))
    return {"keys": sorted(_bad_keys)}
