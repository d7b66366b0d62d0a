"""Uploads what was built, so that nobody has to build during an incident: `make package BUCKET=…`.

Runs in the SAM CLI's virtual environment. Prints the addresses that open the console with a template filled in, and the
commands that do the same. The objects are read with the credentials of whoever deploys: the bucket stays private.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import subprocess
import sys
from urllib.parse import quote

import boto3
from samtranslator.yaml_helper import yaml_parse
from template import transformed

BUILT = ".aws-sam/build/template.yaml"
PACKAGED = pathlib.Path("target/package")
PREFIX = "ec2-isolation"
# Other partitions have consoles whose addresses are not public.
CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


class Bucket:
    """Where it all goes. Objects are named after their content: what a stack was made of stays what it was."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.s3 = boto3.client("s3")
        # The bucket of us-east-1 says nothing.
        self.region = self.s3.get_bucket_location(Bucket=name).get("LocationConstraint") or "us-east-1"
        # As the SDK's endpoints have it, for every partition.
        session = boto3.session.Session()
        self.partition = session.get_partition_for_region(self.region)
        resolver = session._session.get_component("endpoint_resolver")
        self.suffix = resolver.get_partition_dns_suffix(self.partition)

    def package(self, template: str, into: str) -> pathlib.Path:
        """`sam package`: uploads the function and what else a template names."""
        packaged = PACKAGED / into
        where = ["--s3-bucket", self.name, "--s3-prefix", PREFIX, "--region", self.region]
        sam = pathlib.Path(sys.executable).with_name("sam")
        command = [sam, "package", "--template-file", template, *where, "--output-template-file", packaged]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return packaged

    def upload(self, path: pathlib.Path) -> str:
        """The address of a template."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        key = f"{PREFIX}/{path.stem}-{digest}{path.suffix}"
        self.s3.upload_file(str(path), self.name, key)
        return f"https://{self.name}.s3.{self.region}.{self.suffix}/{key}"


def without_transform(path: pathlib.Path) -> pathlib.Path:
    """A StackSet with service-managed permissions takes none."""
    plain = path.with_name("responder-plain.json")
    plain.write_text(json.dumps(transformed(yaml_parse(path.read_text())), indent=1, default=str))
    return plain


def main(name: str, operators_program: str) -> None:
    bucket = Bucket(name)
    PACKAGED.mkdir(parents=True, exist_ok=True)
    template = bucket.upload(bucket.package(BUILT, "template.yaml"))
    packaged = bucket.package("responder.yaml", "responder.yaml")
    responder, plain = bucket.upload(packaged), bucket.upload(without_transform(packaged))
    incident, host = bucket.upload(pathlib.Path("incident.yaml")), bucket.upload(pathlib.Path("host.yaml"))
    credentials = bucket.upload(pathlib.Path("credentials.yaml"))
    bucket.s3.upload_file(operators_program, name, f"{PREFIX}/ec2-isolation")
    show(bucket, template, responder, plain, incident, host, credentials)


def show(bucket: Bucket, template: str, responder: str, plain: str, incident: str, host: str, credentials: str) -> None:
    region = bucket.region
    site = CONSOLES.get(bucket.partition)
    # The wizard asks for the stack failure options; the quick-create page (`create/review`) does not.
    wizard = f"https://{region}.{site}/cloudformation/home?region={region}#/stacks/create/template?templateURL="
    create = f"aws cloudformation create-stack --region {region} --stack-name"

    def step(what: str, *lines: str) -> None:
        print(f"{what}\n")
        for line in lines:
            print(f"  {line}")
        print()

    fetch = f"aws s3 cp s3://{bucket.name}/{PREFIX}/ec2-isolation . && chmod +x ec2-isolation"
    step("The operator's program, also in CloudShell:", f"{fetch} && ./ec2-isolation status --stack incident-42")
    step(
        "Prepare this account and Region, before the night:",
        f"{create} ec2-isolation-responder --template-url {responder} \\",
        "  --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --enable-termination-protection",
    )
    step("Prepare many accounts by a StackSet (docs/roll-out.md):", f"--template-url {plain}")
    if site:
        step(
            "An incident in the console. Under 'Stack failure options' choose "
            "'Preserve successfully provisioned resources':",
            f"{wizard}{quote(incident, safe='')}&stackName=incident-42",
        )
        step("Its forensic host:", f"{wizard}{quote(host, safe='')}&stackName=incident-42-host")
        step(
            "The stack that denies the credentials of its instances:",
            f"{wizard}{quote(credentials, safe='')}&stackName=incident-42-credentials",
        )
        step("Without a responder, all in one stack:", f"{wizard}{quote(template, safe='')}&stackName=incident-42")
    step(
        "An incident with the AWS CLI:",
        f"{create} incident-42 --template-url {incident} --disable-rollback --parameters \\",
        "  ParameterKey=VpcId,ParameterValue=vpc-… ParameterKey=CompromisedInstanceList,ParameterValue='i-…\\,i-…'",
    )
    step(
        "Its forensic host, after the isolation:",
        f"{create} incident-42-host --template-url {host} --parameters \\",
        "  ParameterKey=VpcId,ParameterValue=vpc-… ParameterKey=IsolatedSecurityGroupId,ParameterValue=sg-… \\",
        "  ParameterKey=ForensicSubnetId,ParameterValue=subnet-… ParameterKey=Ec2KeyName,ParameterValue=… \\",
        "  ParameterKey=CompanyIp,ParameterValue=…",
    )
    step(
        "Deny the credentials of the instances, after the isolation:",
        f"{create} incident-42-credentials --template-url {credentials} --capabilities CAPABILITY_IAM \\",
        "  --disable-rollback --enable-termination-protection --parameters \\",
        "  ParameterKey=CompromisedInstanceList,ParameterValue='i-…\\,i-…' ParameterKey=RevokeRoles,ParameterValue=…",
    )
    step(
        "Without a responder, all in one stack:",
        f"{create} incident-42 --template-url {template} \\",
        "  --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --disable-rollback --parameters \\",
        "  ParameterKey=VpcId,ParameterValue=vpc-… ParameterKey=CompromisedInstanceList,ParameterValue='i-…\\,i-…' \\",
        "  ParameterKey=ForensicSubnetId,ParameterValue=subnet-… ParameterKey=Ec2KeyName,ParameterValue=… \\",
        "  ParameterKey=CompanyIp,ParameterValue=…",
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
