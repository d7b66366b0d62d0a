"""A shell on a local AWS with a responder and two instances: README can be followed without an account. `make try`.

    python scripts/try.py [COMMAND [ARGUMENT...]]

Runs in the local AWS's virtual environment. The shell, or the command in its place, gets credentials and region of the
local AWS and nothing of the caller's; VPC, SUBNET and INSTANCES with the ids of what was launched; and sam, aws and,
where it has been built, ec2-isolation on its PATH. When it ends, so does the local AWS.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import urllib.request

import boto3

LOCAL_AWS = "local-aws/local_aws.py"
LOG = pathlib.Path("target/try/local-aws.log")
PROGRAMS = ("target/venv/sam/bin", "target/venv/aws/bin")
# Where `make cli` and `make try` put the operator's program.
BUILDS = ("target/cli", "target/debug")
UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


def forget_own_account() -> None:
    """Neither this process nor the shell may come near an account of the caller's."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]


def newest_first() -> list[str]:
    """The folders of the operator's program: the one that was built last wins."""
    built = [path for folder in BUILDS if (path := pathlib.Path(folder, "ec2-isolation")).exists()]
    return [str(path.parent) for path in sorted(built, key=lambda path: path.stat().st_mtime, reverse=True)]


def environment(ready: dict[str, str]) -> dict[str, str]:
    folders = [str(pathlib.Path(folder).absolute()) for folder in (*PROGRAMS, *newest_first())]
    return {
        **os.environ,
        "AWS_ACCESS_KEY_ID": ready["access_key_id"],
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_DEFAULT_REGION": ready["region"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": ready["endpoint"],
        "AWS_PAGER": "",
        "AWS_REGION": ready["region"],
        "AWS_SECRET_ACCESS_KEY": ready["secret_access_key"],
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PATH": os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]),
        "PS1": "local AWS $ ",
        "SAM_CLI_POLL_DELAY": "1",
        "SAM_CLI_TELEMETRY": "0",
    }


def launch(ready: dict[str, str]) -> dict[str, str]:
    """A network with two instances: one has two interfaces, and each interface two groups."""
    session = boto3.Session(ready["access_key_id"], ready["secret_access_key"], region_name=ready["region"])
    ec2 = session.client("ec2", endpoint_url=ready["endpoint"])
    ssm = session.client("ssm", endpoint_url=ready["endpoint"])
    image = ssm.get_parameter(Name=UBUNTU)["Parameter"]["Value"]
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = {
        name: ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        for name in ("web", "app", "admin")
    }
    ec2.create_key_pair(KeyName="my-key")
    instances = []
    for interfaces in ([["web", "admin"]], [["web", "app"], ["app", "admin"]]):
        launched = ec2.run_instances(
            ImageId=image,
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            KeyName="my-key",
            NetworkInterfaces=[
                {"DeviceIndex": index, "SubnetId": subnet, "Groups": [group[name] for name in names]}
                for index, names in enumerate(interfaces)
            ],
        )
        instances.append(launched["Instances"][0]["InstanceId"])
    return {"VPC": vpc, "SUBNET": subnet, "INSTANCES": ",".join(instances)}


def prepare(ready: dict[str, str]) -> None:
    """The responder, as `make responder` makes it, if the function was built. Without it the rest works."""
    arguments = ["--stack-name", "ec2-isolation-responder", "--template-file", "responder.yaml"]
    deployed = subprocess.run(
        ["target/venv/sam/bin/sam", "deploy", *arguments], env=environment(ready), capture_output=True, text=True
    )
    if deployed.returncode:
        reason = (deployed.stderr or deployed.stdout).strip().splitlines()[-1:]
        print("there is no responder (make build builds its function):", *reason, file=sys.stderr)


def let_time_pass(ready: dict[str, str]) -> None:
    """The schedule of the watch fires, and alarms are evaluated."""
    on = json.dumps({"on": True}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{ready['endpoint']}/_local/clock", data=on, method="PUT")).close()


def main(command: list[str]) -> int:
    forget_own_account()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    # Ctrl-C is for what runs in the shell. A handler, since what is ignored here would stay ignored in there.
    signal.signal(signal.SIGINT, lambda *_: None)
    pipe = subprocess.PIPE
    # It stops when its standard input ends, however this process does.
    with subprocess.Popen(
        [sys.executable, LOCAL_AWS, "--log", LOG], stdin=pipe, stdout=pipe, text=True, start_new_session=True
    ) as local_aws:
        ready = local_aws.stdout.readline()
        if not ready:
            print(f"the local AWS did not start; see {LOG}", file=sys.stderr)
            return 1
        started = json.loads(ready)
        fleet = launch(started)
        prepare(started)
        let_time_pass(started)
        if command:
            return subprocess.run(command, env={**environment(started), **fleet}).returncode
        print("A local AWS with a responder and two instances, on this machine only; `exit` ends it. In this shell:")
        print("".join(f"  {name}={value}\n" for name, value in fleet.items()), end="")
        if not newest_first():
            print("ec2-isolation has not been built yet: make demo or make cli does that.")
        sys.stdout.flush()
        subprocess.run(["bash", "--norc", "--noprofile"], env={**environment(started), **fleet})
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
