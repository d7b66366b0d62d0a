"""What the tests may ask of the local AWS, and what they may see: the knobs and the logs behind `/_local/`.

Nothing here imitates AWS. The endpoints are listed in `local_aws.py`; this module holds their state and routes them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

Json = dict[str, Any]
Handler = Callable[[Json, dict[str, list[str]]], Any]


def called_by(app: str | None, user_agent: str) -> bool:
    """Whether the client calls itself so (AWS_SDK_UA_APP_ID); every client does where no name is given."""
    return app is None or f"app/{app}" in user_agent


FAULT_KINDS = ("throttled", "server", "lost", "timeout", "denied", "garbled", "hold-before", "hold-after")


@dataclass
class Fault:
    """What happens to the nth call, counted from now, of the client whose User-Agent has `app/<app>`."""

    app: str
    call: int
    kind: str
    seen: int = 0

    def strikes(self, user_agent: str) -> bool:
        """Count a call, and say whether it is the one."""
        if not called_by(self.app, user_agent):
            return False
        self.seen += 1
        return self.seen == self.call


@dataclass
class Knobs:
    """Settings that tests change at run time; the defaults are what EC2 and CloudFormation usually do."""

    stale_reads: int = 1
    snapshot_seconds: float = 15.0
    standby_seconds: float = 0.0
    launch_failure: str | None = None
    refuse_open_groups: bool = False
    failed_resource_delete: str = "after"
    page_size: int | None = None
    refuse_unpaginated: bool = False
    fault: Fault | None = None
    clock: bool = False
    trail: bool = False
    states: bool = False


@dataclass
class Call:
    """One AWS API call, in the order of arrival. `status` is None while it runs."""

    n: int
    service: str
    action: str
    principal_arn: str
    parameters: Json
    status: int | None = None
    error_code: str | None = None


@dataclass
class Log:
    """Append-only lists that tests read. Answers never hold a ResponseURL, calls never hold a Lambda payload."""

    calls: list[Call] = field(default_factory=list)
    answers: list[Json] = field(default_factory=list)
    invocations: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    messages: list[Json] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arrive(self, service: str, action: str, principal_arn: str, parameters: Json) -> Call:
        with self.lock:
            call = Call(len(self.calls) + 1, service, action, principal_arn, parameters)
            self.calls.append(call)
        return call


knobs = Knobs()
log = Log()
_routes: dict[tuple[str, str], Handler] = {}


def route(method: str, name: str) -> Callable[[Handler], Handler]:
    """Serve `METHOD /_local/<name>` with a function of (body, query) that returns the JSON answer."""

    def register(handler: Handler) -> Handler:
        _routes[(method, name)] = handler
        return handler

    return register


def handle(method: str, name: str, query_string: str, body: bytes) -> tuple[int, bytes]:
    """Answer one control request: 404 for an unknown one, 400 for a bad one."""
    handler = _routes.get((method, name))
    if handler is None:
        return 404, json.dumps({"error": f"no such control endpoint: {method} /_local/{name}"}).encode()
    try:
        answer = handler(json.loads(body or b"{}"), parse_qs(query_string))
    except (KeyError, TypeError, ValueError) as error:
        return 400, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
    return 200, json.dumps(answer).encode()


@route("GET", "calls")
def _calls(_body: Json, query: dict[str, list[str]]) -> list[Json]:
    since = int(query.get("since", ["0"])[0])
    return [vars(call) for call in log.calls[since:]]


@route("GET", "answers")
def _answers(_body: Json, query: dict[str, list[str]]) -> list[Json]:
    since = int(query.get("since", ["0"])[0])
    return log.answers[since:]


@route("PUT", "reset")
def _reset(_body: Json, query: dict[str, list[str]]) -> Json:
    vars(knobs).update(vars(Knobs()))
    for name in ("bad-keys", "gone", "hide", "refuse", "throttle"):
        _routes[("PUT", name)]({}, query)
    return vars(knobs)


@route("PUT", "stale-reads")
def _stale_reads(body: Json, _query: dict[str, list[str]]) -> Json:
    knobs.stale_reads = int(body["reads"])
    return {"reads": knobs.stale_reads}


@route("PUT", "snapshot-rate")
def _snapshot_rate(body: Json, _query: dict[str, list[str]]) -> Json:
    knobs.snapshot_seconds = float(body["seconds"])
    return {"seconds": knobs.snapshot_seconds}


@route("PUT", "standby-delay")
def _standby_delay(body: Json, _query: dict[str, list[str]]) -> Json:
    knobs.standby_seconds = float(body["seconds"])
    return {"seconds": knobs.standby_seconds}


@route("PUT", "launch-failure")
def _launch_failure(body: Json, _query: dict[str, list[str]]) -> Json:
    code = body["error_code"]
    knobs.launch_failure = None if code is None else str(code)
    return {"error_code": knobs.launch_failure}


@route("PUT", "open-groups")
def _open_groups(body: Json, _query: dict[str, list[str]]) -> Json:
    knobs.refuse_open_groups = bool(body["refused"])
    return {"refused": knobs.refuse_open_groups}


@route("PUT", "failed-resource-order")
def _failed_resource_order(body: Json, _query: dict[str, list[str]]) -> Json:
    if body["delete"] not in ("before", "after"):
        raise ValueError("delete must be 'before' or 'after'")
    knobs.failed_resource_delete = body["delete"]
    return {"delete": knobs.failed_resource_delete}


@route("PUT", "fault")
def _fault(body: Json, _query: dict[str, list[str]]) -> Json:
    if not body:
        knobs.fault = None
        return {}
    if body["kind"] not in FAULT_KINDS:
        raise ValueError(f"kind must be one of {', '.join(FAULT_KINDS)}")
    knobs.fault = Fault(str(body["app"]), int(body["call"]), body["kind"])
    return vars(knobs.fault)


@route("GET", "fault")
def _fault_state(_body: Json, _query: dict[str, list[str]]) -> Json:
    return vars(knobs.fault) if knobs.fault else {}
