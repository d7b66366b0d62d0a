"""The metadata service. moto sets what a call leaves out to its default, and applies a change at once."""

from __future__ import annotations

import time
from typing import Any
from xml.sax.saxutils import escape

from ec2_rules import TERMINAL, Params, Refusal, instance_by_id, numbered, rule, state_of
from protections import refuse_dry_run

# How long a running instance takes to apply a change. AWS does not document it: hashicorp/terraform-provider-aws polls
# every three seconds, for minutes (internal/service/ec2/wait.go).
_DELAY = 1.0
# Parameters and moto's attributes.
_OPTIONS = {
    "HttpEndpoint": "http_endpoint",
    "HttpTokens": "http_tokens",
    "HttpPutResponseHopLimit": "http_put_response_hop_limit",
    "HttpProtocolIpv6": "http_protocol_ipv6",
    "InstanceMetadataTags": "instance_metadata_tags",
}
_WITH_ENDPOINT_ONLY = ("HttpTokens", "HttpPutResponseHopLimit", "HttpProtocolIpv6")
_applied_at: dict[str, float] = {}


@rule("ModifyInstanceMetadataOptions")
def _modify(backend: Any, params: Params) -> bytes:
    instance = instance_by_id(backend, params.get("InstanceId", ""))
    if state_of(instance) in TERMINAL:
        # API errors: IncorrectInstanceState
        raise Refusal("IncorrectInstanceState", f"The instance '{instance.id}' is in the '{state_of(instance)}' state")
    given = {name: params[name] for name in _OPTIONS if name in params}
    if not given:
        # That a call without any option is refused, and with this code, is inferred
        raise Refusal("MissingParameter", "The request must contain at least one metadata option")
    if given.get("HttpEndpoint", "enabled") not in ("enabled", "disabled"):
        raise Refusal(
            "InvalidParameterValue", f"Value ({given['HttpEndpoint']}) for parameter HttpEndpoint is invalid."
        )
    if given.get("HttpEndpoint") == "disabled" and any(name in given for name in _WITH_ENDPOINT_ONLY):
        # API reference: these apply only if HttpEndpoint is enabled. That EC2 refuses them, and the code, are inferred
        raise Refusal("InvalidParameterCombination", "Options of the endpoint cannot be set while it is disabled.")
    refuse_dry_run(params)
    options = instance.metadata_options
    for name, value in given.items():
        setattr(options, _OPTIONS[name], int(value) if name == "HttpPutResponseHopLimit" else value)
    options.state = "pending"
    _applied_at[instance.id] = time.monotonic() + _DELAY
    shown = {"state": options.state, "httpTokens": options.http_tokens, "httpEndpoint": options.http_endpoint}
    text = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in shown.items())
    return (
        f"<ModifyInstanceMetadataOptionsResponse><instanceId>{instance.id}</instanceId>"
        f"<instanceMetadataOptions>{text}</instanceMetadataOptions></ModifyInstanceMetadataOptionsResponse>"
    ).encode()


@rule("DescribeInstances")
def _apply(backend: Any, _params: Params) -> None:
    """A running instance has applied what was changed a moment ago; a stopped one does when it starts."""
    now = time.monotonic()
    for instance in backend.all_instances():
        if instance.id in _applied_at and state_of(instance) == "running" and now >= _applied_at[instance.id]:
            instance.metadata_options.state = "applied"
            del _applied_at[instance.id]


@rule("StartInstances")
def _start(_backend: Any, params: Params) -> None:
    now = time.monotonic()
    _applied_at.update({instance: now for instance in numbered(params, "InstanceId") if instance in _applied_at})
