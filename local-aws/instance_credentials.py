"""The credentials that an instance gets for its role from its metadata service, and what IAM knows of their sessions.

`ec2:SourceInstanceARN`: "the ARN of the instance from which the role's session was generated", in every request that is
made with the session, to any service (IAM user guide, global condition keys; EC2 user guide, "Allow a specific instance
to view resources in other AWS services"). A session that is assumed with it is a new one, without the key.
"""

from __future__ import annotations

from typing import Any

import instance_profiles
import moto_ec2
import role_sessions
from control import Json, route
from moto_ec2 import ACCOUNT, REGION

# About as long as EC2's.
_SECONDS = 6 * 3600
_KEY = "ec2:sourceinstancearn"


def install() -> None:
    """Tell IAM's evaluator which instance a session comes from. Call once, at start."""
    from ministack.core import iam_evaluator

    iam_evaluator._principal_keys = _with_instance(iam_evaluator._principal_keys)


def _with_instance(original: Any) -> Any:
    def principal_keys(credential: Any) -> Json:
        from ministack.services import sts

        session = sts._sessions.get(credential.access_key_id) or {}
        source = {_KEY: session["SourceInstanceArn"]} if "SourceInstanceArn" in session else {}
        return {**original(credential), **source}

    return principal_keys


@route("PUT", "instance-credentials")
def _credentials(body: Json, _query: Any) -> Json:
    """What the metadata service answers on the instance."""
    instance = moto_ec2.backend().get_instance(body["id"])
    if instance.metadata_options.http_endpoint == "disabled":
        raise ValueError(f"the metadata service of {instance.id} is off")
    profile = getattr(instance, "iam_instance_profile", None)
    record = instance_profiles.find({"IamInstanceProfile.Arn": profile["Arn"]}) if profile else None
    if not record or not record["Roles"]:
        raise ValueError(f"{instance.id} has no role")
    source = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{instance.id}"
    return role_sessions.begin(record["Roles"][0], instance.id, _SECONDS, SourceInstanceArn=source)
