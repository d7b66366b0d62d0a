"""What people judge template.yaml by, taken out of it for `make lint`.

    template.py facts           every rule, every policy statement, every retention policy, after the SAM transform
    template.py scripts FOLDER  every shell script, for shellcheck

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

TEMPLATE = pathlib.Path(__file__).parent.parent / "template.yaml"
RULES = ("SecurityGroupIngress", "SecurityGroupEgress")


class _NoManagedPolicies:
    """The template names none, so nobody is asked for their ARNs."""

    def load(self) -> dict[str, str]:
        return {}


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


def facts() -> list[str]:
    # SAM wants to know a region, and a place in S3 for the code; sam package puts it there.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    source = yaml_parse(TEMPLATE.read_text())
    source["Resources"]["IsolationFunction"]["Properties"]["CodeUri"] = "s3://bucket/key"
    transformed = transform(source, {}, _NoManagedPolicies())
    lines = [
        "Made by `make facts` from template.yaml; `make lint` compares. "
        "A change here is a change of what may be done or reached.",
        "",
    ]
    for name, resource in sorted(transformed["Resources"].items()):
        properties = resource.get("Properties", {})
        kept = [
            f"{key}={resource[key]}"
            for key in ("DeletionPolicy", "UpdateReplacePolicy", "Condition", "DependsOn")
            if key in resource
        ]
        lines.append(" ".join([name, resource["Type"], *kept]))
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
        if resource["Type"] in ("AWS::EC2::Instance", "AWS::EC2::LaunchTemplate"):
            keys = ("IamInstanceProfile", "NetworkInterfaces", "BlockDeviceMappings", "LaunchTemplateData")
            lines.extend(f"  {key}: {text(properties[key])}" for key in keys if key in properties)
    return lines


def scripts() -> dict[str, str]:
    """As they run: what CloudFormation fills in stands as its name."""
    host = yaml_parse(TEMPLATE.read_text())["Resources"]["ForensicInstance"]
    files = host["Metadata"]["AWS::CloudFormation::Init"]["config"]["files"]
    found = {path: file["content"] for path, file in files.items() if str(file["content"]).startswith("#!")}
    user_data = host["Properties"]["UserData"]["Fn::If"][1]["Fn::Base64"]["Fn::Sub"]
    user_data = re.sub(r"\$\{AWS::(\w+)\}", r"AWS_\1", user_data).replace("${!", "${")
    # User data, and the programs that it writes, each on its own.
    written = re.findall(r"^cat > (\S+) <<'END'\n(.*?)^END$", user_data, re.MULTILINE | re.DOTALL)
    found |= {path: content for path, content in written if "systemd" not in path}
    return found | {"user-data": user_data}


def main() -> None:
    if sys.argv[1] == "facts":
        print("\n".join(facts()))
        return
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in scripts().items():
        (folder / pathlib.Path(path).name).write_text(content)


if __name__ == "__main__":
    main()
