"""Uploads what was built, so that nobody has to build during an incident: `make package BUCKET=… PARAMETERS="…"`.

Runs in the SAM CLI's virtual environment. Prints the addresses that open the console with a template, and the commands
that do the same, with the parameters that are given. The objects are read with the credentials of whoever deploys: the
bucket stays private.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from urllib.parse import quote, urlencode

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
    "aws-eusc": "console.amazonaws-eusc.eu",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
# The wizard asks for the stack failure options. The quick-create page does not, but it takes parameters (CloudFormation
# user guide, "Create quick-create links"). Nothing documents that the wizard takes any.
WIZARD, QUICK_CREATE = "template", "review"


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


@dataclass
class Template:
    """A template for people: where it lies, and the parameters that it has."""

    path: pathlib.Path
    url: str = ""

    def __post_init__(self) -> None:
        self.parameters = set(yaml_parse(self.path.read_text())["Parameters"])


def main(name: str, operators_program: str, *words: str) -> None:
    given = dict(word.split("=", 1) for word in words)
    names = ("incident", "host", "credentials", "template")
    templates = {stem: Template(pathlib.Path(f"{stem}.yaml")) for stem in names}
    if unknown := sorted(set(given).difference(*(template.parameters for template in templates.values()))):
        raise SystemExit(f"no template has a parameter {', '.join(unknown)}: nothing was uploaded")
    bucket = Bucket(name)
    PACKAGED.mkdir(parents=True, exist_ok=True)
    templates["template"].path = bucket.package(BUILT, "template.yaml")
    for template in templates.values():
        template.url = bucket.upload(template.path)
    packaged = bucket.package("responder.yaml", "responder.yaml")
    responder, plain = bucket.upload(packaged), bucket.upload(without_transform(packaged))
    bucket.s3.upload_file(operators_program, name, f"{PREFIX}/ec2-isolation")
    Shown(bucket, given).all(responder, plain, *(templates[stem] for stem in names))


class Shown:
    """What it prints, with the parameters that are given."""

    def __init__(self, bucket: Bucket, given: dict[str, str]) -> None:
        self.bucket, self.given = bucket, given
        self.create = f"aws cloudformation create-stack --region {bucket.region} --stack-name"

    def address(self, page: str, template: Template, stack: str) -> str:
        """The console's page for a template."""
        region, site = self.bucket.region, CONSOLES[self.bucket.partition]
        fields = {"templateURL": template.url, "stackName": stack}
        if page == QUICK_CREATE:
            fields |= {f"param_{name}": self.given[name] for name in self.given if name in template.parameters}
        home = f"https://{region}.{site}/cloudformation/home?region={region}"
        return f"{home}#/stacks/create/{page}?{urlencode(fields, quote_via=quote, safe='')}"

    def parameters(self, template: Template, **wanted: str) -> list[str]:
        """The end of a command: those that it wants, with examples of values, and what else is given."""
        values = {**wanted, **{name: self.given[name] for name in self.given if name in template.parameters}}
        words = []
        for name, value in values.items():
            escaped = value.replace(",", "\\,")
            quoted = escaped if re.fullmatch(r"[\w…@%+=:./-]+", escaped) else shlex.quote(escaped)
            words.append(f"ParameterKey={name},ParameterValue={quoted}")
        pairs = [" ".join(words[at : at + 2]) for at in range(0, len(words), 2)]
        return [f"  {pair} \\" for pair in pairs[:-1]] + [f"  {pairs[-1]}"]

    def step(self, what: str, *lines: str) -> None:
        print(f"{what}\n")
        for line in lines:
            print(f"  {line}")
        print()

    def all(
        self, responder: str, plain: str, incident: Template, host: Template, credentials: Template, one_shot: Template
    ) -> None:
        fetch = f"aws s3 cp s3://{self.bucket.name}/{PREFIX}/ec2-isolation . && chmod +x ec2-isolation"
        self.step(
            "The operator's program, also in CloudShell:", f"{fetch} && ./ec2-isolation status --stack incident-42"
        )
        self.step(
            "Prepare this account and Region, before the night:",
            f"{self.create} ec2-isolation-responder --template-url {responder} \\",
            "  --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --enable-termination-protection",
        )
        self.step("Prepare many accounts by a StackSet (docs/roll-out.md):", f"--template-url {plain}")
        if self.bucket.partition in CONSOLES:
            self.in_the_console(incident, host, credentials, one_shot)
        instances = "i-…,i-…"
        place = {"ForensicSubnetId": "subnet-…", "Ec2KeyName": "…", "CompanyIp": "…"}
        self.step(
            "An incident with the AWS CLI:",
            f"{self.create} incident-42 --template-url {incident.url} --disable-rollback --parameters \\",
            *self.parameters(incident, VpcId="vpc-…", CompromisedInstanceList=instances),
        )
        self.step(
            "Its forensic host, after the isolation:",
            f"{self.create} incident-42-host --template-url {host.url} --parameters \\",
            *self.parameters(host, VpcId="vpc-…", IsolatedSecurityGroupId="sg-…", **place),
        )
        self.step(
            "Deny the credentials of the instances, after the isolation:",
            f"{self.create} incident-42-credentials --template-url {credentials.url} --capabilities CAPABILITY_IAM \\",
            "  --disable-rollback --enable-termination-protection --parameters \\",
            *self.parameters(credentials, CompromisedInstanceList=instances, RevokeRoles="…"),
        )
        self.step(
            "Without a responder, all in one stack:",
            f"{self.create} incident-42 --template-url {one_shot.url} \\",
            "  --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --disable-rollback --parameters \\",
            *self.parameters(one_shot, VpcId="vpc-…", CompromisedInstanceList=instances, **place),
        )

    def in_the_console(self, incident: Template, host: Template, credentials: Template, one_shot: Template) -> None:
        preserve = "Under 'Stack failure options' choose 'Preserve successfully provisioned resources':"
        filled = ", with your parameters filled in" if self.given else ""
        self.step(
            f"An incident in the console, by the wizard. {preserve}",
            self.address(WIZARD, incident, "incident-42"),
        )
        self.step(
            f"An incident in the console, on one page{filled}. If something fails, this page always rolls back. "
            "With OnRollback=KeepIsolated that releases no instance, but the stack takes no update any more:",
            self.address(QUICK_CREATE, incident, "incident-42"),
        )
        self.step(
            f"Its forensic host, on one page{filled}:",
            self.address(QUICK_CREATE, host, "incident-42-host"),
        )
        self.step(
            "The stack that denies the credentials of its instances, by the wizard:",
            self.address(WIZARD, credentials, "incident-42-credentials"),
        )
        self.step(
            f"Without a responder, all in one stack, by the wizard only. {preserve}",
            self.address(WIZARD, one_shot, "incident-42"),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
