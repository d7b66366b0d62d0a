"""Step Functions where ministack is more lenient or lacks something: whose rights a task has, which services it calls.

ministack calls services as root, and only some of them. Here a task of `aws-sdk` calls this endpoint with a session of
the state machine's role, so that IAM refuses what it does not allow. Names of errors: Step Functions developer guide,
"Integrating with AWS SDK services in Step Functions": the service's name and the code, which ends in Exception. An
error without a name of its own in the API's model has the service's: `CloudFormation.CloudFormationException`.

`PUT /_local/expire` {} ends every wait for a task token as its timeout would.
"""

from __future__ import annotations

import contextvars
import functools
import json
import threading
from typing import Any
from urllib.parse import parse_qsl

import role_sessions
from control import Json, route
from moto_ec2 import REGION

_SECONDS = 12 * 3600
# As Step Functions writes them in the names of errors, where that is not the name in the resource, capitalised.
_NAMES = {
    "cloudformation": "CloudFormation",
    "dynamodb": "DynamoDb",
    "securityhub": "SecurityHub",
}
# The role of the state machine whose execution runs. Its threads inherit it.
_role: contextvars.ContextVar[str] = contextvars.ContextVar("role")
# boto3 makes clients of one session in one thread at a time (boto3 guide, "Multithreading").
_making = threading.Lock()


def install() -> None:
    """Put this over ministack's Step Functions and the condition keys of IAM. Call once, at start."""
    from ministack.core import iam_actions
    from ministack.services import stepfunctions

    stepfunctions._run_execution = _as_role(stepfunctions._run_execution)
    stepfunctions._invoke_aws_sdk_integration = _call
    stepfunctions._execute_task = _with_timeout(stepfunctions._execute_task)
    iam_actions.request_tag_context = _with_keys(iam_actions.request_tag_context)


# --- Tasks ------------------------------------------------------------------------------------------------------------


def _as_role(original: Any) -> Any:
    def run(execution: str) -> None:
        from ministack.services import stepfunctions

        machine = stepfunctions._executions[execution]["stateMachineArn"]
        _role.set(stepfunctions._state_machines[machine]["roleArn"])
        original(execution)

    return run


def _with_timeout(original: Any) -> Any:
    """ministack waits for a number only; an expression may say it (Step Functions developer guide, "Task state")."""

    def execute(state: Json, raw: Any, execution: Json, context: Json) -> Any:
        from ministack.services import stepfunctions

        if isinstance(state.get("TimeoutSeconds"), str):
            seconds = stepfunctions._jsonata_state_field(state, "TimeoutSeconds", "number", raw, context)
            state = {**state, "TimeoutSeconds": seconds}
        return original(state, raw, execution, context)

    return execute


def _client(service: str, name: str) -> Any:
    """Of a role's session, made once: hundreds of executions may begin at once, and boto3 makes one at a time."""
    with _making:
        return _made(service, name)


@functools.cache
def _made(service: str, name: str) -> Any:
    import boto3
    from botocore.config import Config

    # The SDK of Step Functions tries no call again: a state says what is.
    once = Config(retries={"total_max_attempts": 1}, user_agent_appid="step-functions", max_pool_connections=50)
    return boto3.client(service, region_name=REGION, config=once, **_session(name))


def _session(name: str) -> dict[str, str]:
    return {f"aws_{kind}": key for kind, key in role_sessions.begin(name, "step-functions", _SECONDS).items()}


def _call(resource: str, arguments: Json) -> Any:
    from botocore import xform_name
    from botocore.exceptions import ClientError, HTTPClientError, ParamValidationError
    from ministack.services.stepfunctions import _ExecutionError

    service, action = resource.removesuffix(".waitForTaskToken").split(":")[-2:]
    prefix = _NAMES.get(service, service.capitalize())
    client = _client(service, _role.get().rpartition("/")[2])
    try:
        answer = getattr(client, xform_name(action[0].upper() + action[1:]))(**(arguments or {}))
    except ParamValidationError as error:
        raise _ExecutionError("States.Runtime", str(error)) from error
    except HTTPClientError as error:
        raise _ExecutionError(f"{prefix}.SdkClientException", str(error)) from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        modelled = {shape.error_code for shape in client.meta.service_model.error_shapes}
        modelled |= {shape.name for shape in client.meta.service_model.error_shapes}
        name = code.removesuffix("Exception") if code in modelled else prefix
        message = error.response["Error"].get("Message", "")
        raise _ExecutionError(f"{prefix}.{name}Exception", message) from error
    answer.pop("ResponseMetadata", None)
    return json.loads(json.dumps(answer, default=str))


@route("PUT", "expire")
def _expire(_body: Json, _query: Any) -> Json:
    from ministack.services import stepfunctions

    waiting = list(stepfunctions._task_tokens.values())
    for wait in waiting:
        wait["error"] = {"Error": "States.Timeout", "Cause": "the time is over"}
        wait["event"].set()
    return {"expired": len(waiting)}


# --- Condition keys ---------------------------------------------------------------------------------------------------


def _with_keys(original: Any) -> Any:
    """Service Authorization Reference, "AWS CloudFormation" and "Amazon DynamoDB", condition keys."""

    def context(service: str, action: str, body: bytes, parameters: Json) -> Json:
        found = dict(original(service, action, body, parameters))
        if service == "cloudformation":
            form = dict(parse_qsl(body.decode(), keep_blank_values=True))
            names = {"TemplateURL": "templateurl", "RoleARN": "rolearn", "ChangeSetName": "changesetname"}
            found |= {f"cloudformation:{key}": form[name] for name, key in names.items() if name in form}
            types = [value for name, value in form.items() if name.startswith("ResourceTypes.")]
            found |= {"cloudformation:resourcetypes": types} if types else {}
        if service == "dynamodb" and action in ("dynamodb:PutItem", "dynamodb:UpdateItem"):
            found |= _leading_keys(json.loads(body or b"{}"))
        return found

    return context


def _leading_keys(request: Json) -> Json:
    from ministack.services import dynamodb

    table = dynamodb._tables.get(str(request.get("TableName", "")).rpartition("/")[2])
    values = request.get("Item") or request.get("Key") or {}
    if not table:
        return {}
    key = next(part["AttributeName"] for part in table["KeySchema"] if part["KeyType"] == "HASH")
    return {"dynamodb:leadingkeys": [next(iter(values[key].values()))]} if key in values else {}
