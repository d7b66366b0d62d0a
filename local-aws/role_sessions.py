"""Sessions of a role that AWS itself begins: for an instance, or for a service that acts with it."""

from __future__ import annotations

import secrets
import time

from moto_ec2 import ACCOUNT


def begin(role: str, name: str, seconds: int, **known: str) -> dict[str, str]:
    """Tell ministack's IAM of a session by this name, with what else is `known` of it. Its keys."""
    from ministack.services import iam, sts

    key = f"ASIA{secrets.token_hex(8).upper()}"
    session = {
        "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}",
        "UserId": f"{iam._roles[role]['RoleId']}:{name}",
        "AccountId": ACCOUNT,
        "PrincipalType": "AssumedRole",
        "SecretAccessKey": secrets.token_hex(20),
        "SessionToken": secrets.token_hex(32),
        "Expiration": time.time() + seconds,
        **known,
    }
    sts.register_session(key, session)
    return {
        "access_key_id": key,
        "secret_access_key": session["SecretAccessKey"],
        "session_token": session["SessionToken"],
    }
