"""What people judge the templates by, taken out of them for `make check`: every rule, every policy statement, every
retention policy, every fixed name, every parameter that replaces a resource, after the SAM transform.

Runs in the virtual environment of the local AWS, which has the SAM transform.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys
from typing import Any

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = pathlib.Path(__file__).parent.parent
sys.path.append(str(ROOT / "local-aws"))

import schemas  # noqa: E402  (of the local AWS)

TEMPLATES = ("template.yaml", "responder.yaml", "incident.yaml", "host.yaml", "credentials.yaml")
RULES = ("SecurityGroupIngress", "SecurityGroupEgress")
# What calls the function, and who is told.
SHOWN = {
    "AWS::Events::Rule": ("ScheduleExpression", "EventPattern", "Targets"),
    "AWS::Lambda::Permission": ("Principal", "SourceArn"),
    "AWS::SNS::Topic": ("TopicName", "Subscription"),
    "AWS::CloudWatch::Alarm": ("AlarmName", "AlarmActions"),
}


class _NoManagedPolicies:
    """The templates name none, so nobody is asked for their ARNs."""

    def load(self) -> dict[str, str]:
        return {}


def transformed(template: dict[str, Any]) -> dict[str, Any]:
    """After the SAM transform."""
    return dict(transform(template, {}, _NoManagedPolicies()))


def text(value: Any) -> str:
    """A value on one line, functions in their short form."""
    if isinstance(value, dict) and len(value) == 1:
        ((name, argument),) = value.items()
        if name == "Ref":
            return f"${{{argument}}}"
        if name == "Fn::GetAtt":
            return "${" + (argument if isinstance(argument, str) else ".".join(argument)) + "}"
        if name == "Fn::Sub" and isinstance(argument, str):
            return argument
        if name.startswith("Fn::"):
            return f"{name.removeprefix('Fn::')}({', '.join(map(text, argument))})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text, value)) + "]"
    return str(value)


def branches(items: Any, condition: str = "") -> list[tuple[str, Any]]:
    """What a list holds, with the condition that each item depends on."""
    if isinstance(items, list):
        return [branch for item in items for branch in branches(item, condition)]
    if isinstance(items, dict) and "Fn::If" in items:
        name, yes, no = items["Fn::If"]
        return branches(yes, f" if {name}") + branches(no, f" unless {name}")
    return [] if items == {"Ref": "AWS::NoValue"} else [(condition, items)]


class Replacements:
    """Which parameters of a template replace which of its resources, by a change of which property.

    CloudFormation replaces nothing while rollback is disabled. What refers to a resource is replaced with it, and what
    refers to the version of a launch template by anything that makes a new one.
    """

    def __init__(self, template: dict[str, Any]) -> None:
        self.template = template

    def of(self, name: str) -> dict[str, list[str]]:
        """Parameter: the properties of this resource that it replaces it by."""
        resource = self.template["Resources"][name]
        kind, properties = resource["Type"], resource.get("Properties", {})
        for unknown in (p for p in schemas.on_conditions(kind) if p in properties and not schemas.judged(kind, p)):
            raise SystemExit(f"{kind}, {unknown}: judge in local-aws/schemas.py whether a change replaces it")
        # Custom resources: a changed ServiceToken is refused.
        ways = [("ServiceToken",)] if kind.startswith("Custom::") else schemas.replacing(kind)
        found: dict[str, list[str]] = {}
        for way in ways:
            for parameter in sorted(self.behind(schemas.at(properties, way))):
                found.setdefault(parameter, []).append(".".join(way))
        return dict(sorted(found.items()))

    def behind(self, value: Any) -> set[str]:
        """The parameters that a value depends on."""
        if isinstance(value, list):
            return set().union(*map(self.behind, value)) if value else set()
        if not isinstance(value, dict):
            return set()
        found: set[str] = set()
        for key, argument in value.items():
            if key == "Ref":
                found |= self.named(argument)
            elif key == "Fn::GetAtt":
                found |= self.named(argument if isinstance(argument, str) else ".".join(argument))
            elif key == "Fn::Sub":
                text = argument if isinstance(argument, str) else argument[0]
                found |= set().union(*map(self.named, re.findall(r"\$\{([\w:.]+)\}", text)))
            elif key in ("Fn::If", "Condition"):
                name = argument[0] if key == "Fn::If" else argument
                found |= self.behind(self.template["Conditions"].get(name) if isinstance(name, str) else None)
            found |= self.behind(argument)
        return found

    def named(self, reference: str) -> set[str]:
        """The parameters that change what a reference leads to."""
        name, _, attribute = reference.partition(".")
        if name in self.template.get("Parameters", {}):
            return {name}
        if name not in self.template["Resources"]:
            return set()
        if attribute in ("LatestVersionNumber", "DefaultVersionNumber"):
            return self.behind(self.template["Resources"][name]["Properties"])
        return set(self.of(name))


def facts() -> list[str]:
    # SAM wants to know a region, and a place in S3 for the code; sam package puts it there.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    lines = [
        "Made by `make facts` from the templates; `make check` compares. "
        "A change here is a change of what may be done or reached."
    ]
    for name in TEMPLATES:
        template = yaml_parse((ROOT / name).read_text())
        if "IsolationFunction" in template["Resources"]:
            template["Resources"]["IsolationFunction"]["Properties"]["CodeUri"] = "s3://bucket/key"
            template = transformed(template)
        lines += ["", f"== {name}", "", *of_resources(template)]
    return lines


def of_resources(template: dict[str, Any]) -> list[str]:
    """What is to be judged of each resource, by its name."""
    lines: list[str] = []
    replacements = Replacements(template)
    for name, resource in sorted(template["Resources"].items()):
        properties = resource.get("Properties", {})
        kept = [
            f"{key}={resource[key]}"
            for key in ("DeletionPolicy", "UpdateReplacePolicy", "Condition", "DependsOn")
            if key in resource
        ]
        lines.append(" ".join([name, resource["Type"], *kept]))
        replaced = replacements.of(name).items()
        lines.extend(f"  replaced if {parameter} changes: {', '.join(by)}" for parameter, by in replaced)
        for direction in RULES:
            for condition, rule in branches(properties.get(direction, [])):
                lines.append(f"  {direction}{condition}: {text(rule)}")
        if resource["Type"] in ("AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress"):
            lines.append(f"  {text(properties)}")
        if resource["Type"] == "AWS::IAM::Role":
            lines.append(f"  managed: {text(properties.get('ManagedPolicyArns', []))}")
            documents = [("", properties["AssumeRolePolicyDocument"])]
            documents += [(c, policy["PolicyDocument"]) for c, policy in branches(properties.get("Policies", []))]
            for condition, document in documents:
                statements = branches(document["Statement"], condition)
                lines.extend(f"  statement{inner}: {text(statement)}" for inner, statement in statements)
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            lines.append(f"  roles: {text(properties['Roles'])}")
            statements = branches(properties["PolicyDocument"]["Statement"])
            lines.extend(f"  statement{inner}: {text(statement)}" for inner, statement in statements)
        fixed = ("FunctionName", "Name", "UpdateMethod")
        lines.extend(f"  {key}: {text(properties[key])}" for key in fixed if key in properties)
        shown = SHOWN.get(resource["Type"], ())
        lines.extend(f"  {key}: {text(properties[key])}" for key in shown if key in properties)
        if resource["Type"] in ("AWS::EC2::Instance", "AWS::EC2::LaunchTemplate"):
            keys = ("IamInstanceProfile", "NetworkInterfaces", "BlockDeviceMappings", "LaunchTemplateData")
            lines.extend(f"  {key}: {text(properties[key])}" for key in keys if key in properties)
    return lines


if __name__ == "__main__":
    print("\n".join(facts()))
