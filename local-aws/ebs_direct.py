"""EBS's direct APIs of the local AWS: what is in a snapshot, block by block.

moto's own holds only snapshots that were written through them. Here the content of a volume follows from its id: a
first block, unless a test says which blocks were written. A copy has the content of what it is a copy of.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import moto_ec2
from authorisation import Check, denial
from control import Json, route
from ec2_rules import Refusal

BLOCK = 512 * 1024  # EBS user guide, "EBS direct APIs": blocks of 512 KiB
MIN_PAGE, MAX_PAGE = 100, 10_000  # ListSnapshotBlocks, API reference: MaxResults
_PATH = re.compile(r"/snapshots/(snap-[0-9a-f]+)/blocks(?:/(\d+))?")
# Volumes with the blocks that were written.
_written: dict[str, set[int]] = {}


def serves(scope: dict[str, Any]) -> bool:
    """Whether a request is signed for EBS's direct APIs."""
    headers = {name.lower(): value for name, value in scope.get("headers", [])}
    return b"/ebs/aws4_request" in headers.get(b"authorization", b"")


def handle(
    path: str, headers: dict[str, str], query: dict[str, list[str]]
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """One call: status, headers and body."""
    try:
        with moto_ec2.lock:
            return _answer(path, headers, {name: values[-1] for name, values in query.items()}, query)
    except Refusal as refusal:
        body = json.dumps({"Message": refusal.message}).encode()
        return refusal.status, [(b"x-amzn-errortype", refusal.code.encode())], body


def _answer(
    path: str, headers: dict[str, str], params: dict[str, str], query: dict[str, list[str]]
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    match = _PATH.fullmatch(path)
    if match is None:
        raise Refusal("ValidationException", f"{path} is nothing that the local AWS knows")
    snapshot_id, index = match[1], match[2]
    action = "ListSnapshotBlocks" if index is None else "GetSnapshotBlock"
    # Service Authorization Reference, "Amazon Elastic Block Store"
    arn = f"arn:aws:ec2:{moto_ec2.REGION}::snapshot/{snapshot_id}"
    if (reason := denial(moto_ec2.REGION, headers, query, Check(f"ebs:{action}", arn, {}))) is not None:
        raise Refusal("AccessDeniedException", reason, 403)
    snapshot = moto_ec2.backend().snapshots.get(snapshot_id)
    if snapshot is None:
        raise Refusal("ResourceNotFoundException", f"The snapshot '{snapshot_id}' does not exist.", 404)
    if snapshot.status != "completed":
        raise Refusal("ValidationException", f"The snapshot '{snapshot_id}' is not in the completed state.")
    if index is None:
        return _page(snapshot, params)
    return _block(snapshot, int(index), params.get("blockToken", ""))


def _page(snapshot: Any, params: dict[str, str]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    size = int(params.get("maxResults", MAX_PAGE))
    if not MIN_PAGE <= size <= MAX_PAGE or {"pageToken", "startingBlockIndex"} <= params.keys():
        raise Refusal("ValidationException", "MaxResults, NextToken or StartingBlockIndex is wrong")
    start = int(params.get("pageToken") or params.get("startingBlockIndex") or 0)
    indexes = sorted(index for index in _indexes(snapshot.volume.id) if index >= start)
    page = indexes[:size]
    body: Json = {
        "Blocks": [{"BlockIndex": index, "BlockToken": _token(snapshot.id, index)} for index in page],
        "VolumeSize": snapshot.volume.size,
        "BlockSize": BLOCK,
        "ExpiryTime": 4_000_000_000,
    }
    if len(indexes) > size:
        body["NextToken"] = str(indexes[size])
    return 200, [(b"content-type", b"application/json")], json.dumps(body).encode()


def _block(snapshot: Any, index: int, token: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    if index not in _indexes(snapshot.volume.id) or token != _token(snapshot.id, index):
        raise Refusal("ValidationException", f"The block token of block {index} is not valid.")
    data = content(snapshot.volume.id, index)
    checksum = base64.b64encode(hashlib.sha256(data).digest())
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"x-amz-data-length", str(len(data)).encode()),
        (b"x-amz-checksum", checksum),
        (b"x-amz-checksum-algorithm", b"SHA256"),
    ]
    return 200, headers, data


def content(volume_id: str, index: int) -> bytes:
    """What stands in a block."""
    return hashlib.sha256(f"{volume_id} {index}".encode()).digest() * (BLOCK // 32)


def _indexes(volume_id: str) -> set[int]:
    return _written.get(volume_id, {0})


def _token(snapshot_id: str, index: int) -> str:
    return f"{snapshot_id}-{index}"


@route("PUT", "blocks")
def _set_blocks(body: Json, _query: dict[str, list[str]]) -> Json:
    _written[body["volume"]] = {int(index) for index in body["indexes"]}
    if "gib" in body:
        moto_ec2.backend().volumes[body["volume"]].size = int(body["gib"])
    return {"volume": body["volume"], "blocks": len(_written[body["volume"]])}
