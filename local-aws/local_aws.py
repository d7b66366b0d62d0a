"""The local AWS: everything the stack needs, in one process, on 127.0.0.1.

    python local_aws.py [--log FILE]

prints one JSON line when it is ready: {"endpoint", "region", "account", "access_key_id", "secret_access_key", "pid"}.
The credentials are an administrator's (an IAM user; IAM is enforced). It stops on SIGTERM, on SIGINT, and when its
standard input ends, and takes the functions' processes with it.

Control endpoints, JSON in and out, no credentials:

    GET /_local/calls?since=N        calls N+1, N+2, … as {n, service, action, principal_arn, parameters, status,
                                     error_code}, in order of arrival; status is null while a call runs
    GET /_local/answers?since=N      what functions PUT to their ResponseURL: {request_id, request_type, stack_id,
                                     logical_resource_id, status_code, size, body}; a second PUT is listed too
    PUT /_local/reset                {}: everything below that was asked for to go wrong goes right again
    PUT /_local/stale-reads          {"reads": k}: the next k Describe calls that show a just changed interface show
                                     its old groups (default 1)
    PUT /_local/snapshot-rate        {"seconds": s}: EC2's pause between two snapshots of one volume (default 15)
    PUT /_local/interface            {"id": "eni-…", "requester_managed": true|false, "type": "trunk", "managed":
                                     true|false, "tags": {…}}: what is absent stays; tags are added
    PUT /_local/snapshot             {"id": "snap-…", "state": "pending"|"error"|null, "percent": 40, "message": "…"}:
                                     how far a snapshot is; null ends it
    PUT /_local/bad-keys             {"keys": ["arn:…"]}: KMS keys that EC2 may not use
    PUT /_local/blocks               {"volume": "vol-…", "indexes": [0, 7], "gib": 1}: which blocks of a volume were
                                     written, and its size; what is absent stays
    PUT /_local/throttle             {"on": true|false}: EC2's request token buckets, full at the start (default off)
    PUT /_local/standby-delay        {"seconds": s}: how long an instance is EnteringStandby, or Pending after Standby
                                     (default 0: at once)
    PUT /_local/instance             {"id": "i-…", "state": "shutting-down"|null, "managed": true|false}: an instance
                                     that is going away but still shows its interfaces; one that is hidden unless
                                     IncludeManagedResources is asked for; what is absent stays
    PUT /_local/instance-credentials {"id": "i-…"}: the credentials that the instance gets for its role from its
                                     metadata service; 400 if that is off, or it has no role
    PUT /_local/launch-failure       {"error_code": "InsufficientInstanceCapacity"|null}: AWS::EC2::Instance of any
                                     stack cannot launch
    PUT /_local/ubuntu-image         {}: Canonical publishes an image behind its public parameter; answers {"id"}
    PUT /_local/page-size            {"size": n|null}: Describe calls of EC2 without ids answer at most n items
    PUT /_local/unpaginated          {"refused": true|false}: groups and interfaces can not be described all at once
    PUT /_local/hide                 {"action": a, "id": i, "seconds": s, "calls": n, "only_rules": false, "refused":
                                     true, "app": x}: readings leave out a resource, or a group's rules; {} ends all
    PUT /_local/gone                 {"action": a, "id": i, "call": n, "entirely": false, "app": x}: a resource goes
                                     just before the nth call from now of an action; {} ends all
    PUT /_local/refuse               {"action": a, "id": i, "error_code": c, "calls": n, "app": x}: calls that name a
                                     resource fail; {} ends all
    GET /_local/hide, gone, refuse   what was asked for, with what has come of it
    PUT /_local/failed-resource-order {"delete": "before"|"after"}: when an update replaces a custom resource whose
                                     Create failed, its Delete comes before or after the new Create (default after)
    PUT /_local/fault                {"app": a, "call": n, "kind": k}: the nth call from now of the client that calls
                                     itself a (AWS_SDK_UA_APP_ID) goes wrong; {} ends it; the kinds are in control.py
    GET /_local/fault                the same with "seen", how many of its calls have come
    PUT /_local/schedule             {"stack": name}: EventBridge's schedules of this stack fire now; answers {"fired"}
    GET /_local/invocations?since=N  functions that rules called: {n, rule, function, input, status, answer}; status is
                                     "running", "done", "failed", "not found" or "not permitted"
    PUT /_local/events               {"trail": true|false, "states": true|false}: what EC2 puts on the default bus:
                                     CloudTrail's events of its calls, changes of an instance's state (default neither)
    GET /_local/events?since=N       what came to the bus in this way: {n, source, detail-type, detail}
    PUT /_local/event                {"source", "detail-type", "detail"}: an event of AWS's on the bus, now; answers
                                     {"called": [rule, …]}
    PUT /_local/alarms               {"after": s}: evaluates every alarm, as of s seconds from now (default 0); answers
                                     {"changed": [name, …]}
    GET /_local/messages?topic=ARN&since=N  what was published: {n, topic, subject, message}
    PUT /_local/embedded-metrics     {"line": text}: a line of a function's log; answers {"metrics"}, how many are in it
    GET /_local/replacing?type=T     which properties of a resource type replace it if they change, tried one by one:
                                     {"replacing": [name, …]}
    PUT /_local/clock                {"on": true|false}: schedules fire by themselves, and alarms are evaluated each
                                     minute (default off)

What is not emulated is listed in README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from typing import Any
from urllib.parse import parse_qs

ACCOUNT = "123456789012"
REGION = "us-east-1"
UBUNTU_PARAMETER = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
# EC2 User Guide, "Reference AMIs using Systems Manager public parameters"
AMAZON_LINUX_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
logger = logging.getLogger("local_aws")


def settle_environment(port: int, scratch: str) -> None:
    """Decide every setting by environment, before ministack and moto are imported: they read it at import.

    Functions inherit this environment, so proxies, profiles and credentials of the caller must not be in it.
    """
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(
        AUTH="true",
        AWS_ACCESS_KEY_ID=f"LOCALROOT{secrets.token_hex(6).upper()}",
        AWS_CONFIG_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_SECRET_ACCESS_KEY=secrets.token_hex(20),
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        IOT_MTLS_ENABLED="0",
        LAMBDA_ASYNC_RETRY_BASE_SECONDS="1",
        MINISTACK_ACCOUNT_ID=ACCOUNT,
        MINISTACK_HOST="127.0.0.1",
        MINISTACK_REGION=REGION,
        MOTO_ACCOUNT_ID=ACCOUNT,
        MOTO_EC2_LOAD_DEFAULT_AMIS="false",
        NO_PROXY="127.0.0.1",
        SFTP_ENABLED="0",
        TMPDIR=scratch,
    )
    tempfile.tempdir = scratch


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gateway() -> Any:
    """The ASGI application: control endpoints and ResponseURLs here, everything else is ministack's."""
    from ministack.app import app

    import control
    import custom_resources
    import ebs_direct

    async def serve(scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        is_ours = path.startswith(("/_local/", custom_resources.ANSWER_PATH)) or ebs_direct.serves(scope)
        if scope["type"] != "http" or not is_ours:
            # Callers of the real AWS use TLS, and the bucket that the SAM CLI makes refuses anything else.
            secure = [(b"x-forwarded-proto", b"https")] if scope["type"] == "http" else []
            await app({**scope, "headers": [*scope.get("headers", []), *secure]}, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if path.startswith("/_local/"):
            query = scope["query_string"].decode()
            status, answer = control.handle(scope["method"], path.removeprefix("/_local/"), query, body)
            headers = [(b"content-type", b"application/json")]
        elif ebs_direct.serves(scope):
            named = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
            status, headers, answer = ebs_direct.handle(path, named, parse_qs(scope["query_string"].decode()))
        else:
            status, answer = custom_resources.receive(scope["method"], path, dict(scope["headers"]), body), b""
            headers = []
        headers.append((b"content-length", str(len(answer)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return serve


def seed() -> None:
    """What every account has: a default VPC (moto makes it), images of Canonical and Amazon behind public parameters.

    There is one image without EBS, too, for instances that have nothing but instance store volumes.
    """
    import control
    import moto_ec2

    control.route("PUT", "ubuntu-image")(lambda _body, _query: {"id": publish_ubuntu()})
    publish_ubuntu()
    publish(AMAZON_LINUX_PARAMETER, "al2023-ami-2023.12", "Amazon Linux 2023")
    register = moto_ec2.backend().register_image
    register("instance-store-2014.09", "Instance store only").root_device_type = "instance-store"


def publish_ubuntu() -> str:
    """A new image behind Canonical's public parameter; its id."""
    return publish(UBUNTU_PARAMETER, "ubuntu-noble-24.04-amd64-server", "Canonical, Ubuntu, 24.04, amd64")


def publish(parameter: str, name: str, description: str) -> str:
    """A new image behind a public parameter; its id."""
    from ministack.services import ssm

    import moto_ec2

    image = moto_ec2.backend().register_image(name, description)
    image.root_device_type = "ebs"
    ssm._parameters[parameter] = {
        "Name": parameter,
        "Value": image.id,
        "Type": "String",
        "Version": 1,
        "ARN": f"arn:aws:ssm:{REGION}::parameter{parameter}",
        "LastModifiedDate": 1_700_000_000,
        "DataType": "aws:ec2:image",
        "Tier": "Standard",
    }
    return str(image.id)


def create_administrator() -> dict[str, str]:
    """An IAM user who may do everything, made with the account's root key."""
    import boto3

    iam = boto3.client("iam", region_name=REGION)
    iam.create_user(UserName="administrator")
    everything = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    iam.put_user_policy(UserName="administrator", PolicyName="everything", PolicyDocument=json.dumps(everything))
    key = iam.create_access_key(UserName="administrator")["AccessKey"]
    return {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}


async def wait_until_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


async def run(port: int) -> None:
    """Serve until told to stop; the JSON line goes out once everything answers."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    import stacks

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def watch_parent() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch_parent, daemon=True).start()
    stacks.install()
    seed()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 0.5
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    server = asyncio.create_task(serve(gateway(), config, shutdown_trigger=stop.wait))
    ready = asyncio.create_task(announce(port))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        ready.result()
    await stopped
    try:
        await asyncio.wait_for(server, timeout=3)
    except asyncio.TimeoutError:  # not TimeoutError yet in Python 3.10
        logger.warning("open connections were cut")


async def announce(port: int) -> None:
    """Make the administrator and print the line that callers wait for."""
    import control

    await wait_until_listening(port)
    administrator = await asyncio.to_thread(create_administrator)
    control.log.calls.clear()
    ready = {"endpoint": f"http://127.0.0.1:{port}", "region": REGION, "account": ACCOUNT, **administrator}
    print(json.dumps({**ready, "pid": os.getpid()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--log", metavar="FILE", help="write the log there instead of to standard error")
    arguments = parser.parse_args()
    scratch = tempfile.mkdtemp(prefix="local-aws-")
    port = free_port()
    settle_environment(port, scratch)
    target: dict[str, Any] = {"filename": arguments.log} if arguments.log else {"stream": sys.stderr}
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", **target)
    status = 0
    try:
        # Not asyncio.run: that waits for every task, and a stack's may wait for an answer for an hour.
        asyncio.new_event_loop().run_until_complete(run(port))
    except Exception:
        logger.exception("the local AWS failed")
        status = 1
    stop_functions()
    shutil.rmtree(scratch, ignore_errors=True)
    logging.shutdown()
    # Threads may still wait for a function's answer that will not come; they must not keep the process.
    os._exit(status)


def stop_functions() -> None:
    """End the processes of all functions."""
    from ministack.core import lambda_runtime

    lambda_runtime.reset()


if __name__ == "__main__":
    main()
