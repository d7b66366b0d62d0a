"""Writes what is derived: `make templates`. With `check` it says what is stale instead.

The forensic host's scripts, units and keys are files in forensic-host/. They are woven into template.yaml, under each
comment `# from forensic-host/…`. In a file, `@Name@` is what CloudFormation fills in, and a line `@file@` another file.
The state machine of trigger/ is woven into responder.yaml in this way, too, as an object.

The other templates (STACKS) are cut out of template.yaml. A resource belongs to the stack that its Metadata names
(`Stack: host`; `none` is in template.yaml only). Parameters, conditions, rules and outputs follow from what the
resources refer to; an output that refers to none is the incident's. Two kinds of comments say where a stack differs:

    Name: value  # not in host.yaml     leaves out this line and what is indented below it
    # in host.yaml: Name: value         puts in this line

What a stack has beside that stands in parts/; an entry there replaces the one of that name.

Runs in the virtual environment of the local AWS.
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Any

import yaml
from samtranslator.yaml_helper import yaml_parse

ROOT = pathlib.Path(__file__).parent.parent
SOURCE = "template.yaml"
# In this order, since the responder carries the others in itself, with the bytes that each may have. CreateStack:
# TemplateBody, which is less than a document of Systems Manager may have (64 KB); TemplateURL.
STACKS = {"incident": 51_200, "host": 51_200, "credentials": 51_200, "responder": 1_000_000}
SECTIONS = ("Parameters", "Rules", "Conditions", "Resources", "Outputs")
Entries = dict[str, str]


# --- Weaving ----------------------------------------------------------------------------------------------------------


def content(path: pathlib.Path) -> str:
    """A file of the forensic host, with those that it names."""
    return re.sub(r"^@(\S+)@\n", lambda name: content(path.with_name(name[1])), path.read_text(), flags=re.MULTILINE)


def substituted(text: str) -> str:
    """As Fn::Sub wants it: only what stands between two @ is its business."""
    return re.sub(r"@([A-Za-z0-9:]+)@", r"${\1}", text.replace("${", "${!"))


def woven(text: str, read: Any) -> str:
    """Puts what `read` says of a path below each comment that names it."""
    block = re.compile(r"^( *)# from (\S+)\n(\1[^\n]*[|:])\n(?:\1 +[^\n]*\n|\n)*", re.MULTILINE)

    def weave(found: re.Match[str]) -> str:
        indent, path, key = found[1], found[2], found[3]
        inside = read(path)
        inside = substituted(inside) if key.endswith("!Sub |") else inside
        # A list item's value is indented from behind its dash.
        deeper = indent + ("    " if key.lstrip().startswith("- ") else "  ")
        lines = [deeper + line if line else "" for line in inside.splitlines()]
        after = "\n" if found[0].endswith("\n\n") else ""
        return f"{indent}# from {path}\n{key}\n" + "\n".join(lines) + "\n" + after

    return block.sub(weave, text)


# --- Cutting ----------------------------------------------------------------------------------------------------------


def fitted(text: str, stack: str) -> str:
    """Follows the comments that say where a stack differs."""
    lines: list[str] = []
    left_out: int | None = None
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if left_out is not None and (not line.strip() or depth > left_out):
            continue
        left_out = None
        if there := re.match(r" *# in ([\w., ]+): (.*)", line):
            if f"{stack}.yaml" in there[1]:
                lines.append(" " * depth + there[2])
            continue
        if absent := re.search(r"  # not in ([\w., ]+)$", line):
            if f"{stack}.yaml" in absent[1]:
                left_out = depth
                continue
            line = line[: absent.start()]
        lines.append(line)
    return "\n".join(lines) + "\n"


def sections(text: str) -> dict[str, Entries]:
    """Each section's entries, with the comments above them. A section of another kind is one entry without a name."""
    found: dict[str, Entries] = {}
    parts = re.split(r"^([A-Z]\w+):", text, flags=re.MULTILINE)
    for section, body in zip(parts[1::2], parts[2::2], strict=True):
        found[section] = entries(body) if section in SECTIONS else {"": body}
    return found


def entries(body: str) -> Entries:
    """A section's entries, with the comments above them. A heading between two rules belongs to none."""
    body = re.sub(r"^  # -{9,}\n(?:  #[^\n]*\n)+?  # -{9,}\n", "", body, flags=re.MULTILINE)
    found: Entries = {}
    above, name = "", ""
    for line in body.splitlines(keepends=True)[1:]:
        if line.startswith("  #") or not line.strip():
            above += line
        elif start := re.match(r"  ([\w:]+):", line):
            name = start[1]
            found[name], above = above.lstrip("\n") + line, ""
        else:
            found[name], above = found[name] + above + line, ""
    return found


def names(value: Any) -> set[str]:
    """What a value refers to."""
    if isinstance(value, list):
        return set().union(*map(names, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found: set[str] = set()
    for key, argument in value.items():
        if key in ("Ref", "Condition") and isinstance(argument, str):
            found.add(argument)
        elif key == "Fn::GetAtt":
            found.add(argument.split(".")[0] if isinstance(argument, str) else argument[0])
        elif key == "Fn::If":
            found.add(argument[0])
        elif key == "Fn::Sub":
            text = argument if isinstance(argument, str) else argument[0]
            own = {} if isinstance(argument, str) else argument[1]
            found |= {name.split(".")[0] for name in re.findall(r"\$\{([\w:.]+)\}", text)} - set(own)
        elif key == "Fn::ValueOf":
            found.add(argument[0])
        elif key == "DependsOn":
            found |= {argument} if isinstance(argument, str) else set(argument)
        found |= names(argument)
    return {name for name in found if not name.startswith("AWS::")}


def data(entries: Entries) -> dict[str, Any]:
    """The entries, read."""
    return dict(yaml_parse("".join(entries.values())) or {})


def interface(groups: list[Any], labels: dict[str, Any], parameters: Entries) -> dict[str, Any]:
    """The console's form for these parameters, its parts numbered."""
    kept: list[Any] = []
    for group in groups:
        placed = {name for other in kept for name in other["Parameters"]}
        own = [name for name in group["Parameters"] if name in parameters and name not in placed]
        if own:
            label = re.sub(r"^\d+\. ", f"{len(kept) + 1}. ", group["Label"]["default"])
            kept.append({"Label": {"default": label}, "Parameters": own})
    return {"ParameterGroups": kept, "ParameterLabels": {name: labels[name] for name in labels if name in parameters}}


def cut(source: str, stack: str) -> str:
    """The template of one stack."""
    part = sections((ROOT / "parts" / f"{stack}.yaml").read_text())
    whole = sections(fitted(source, stack))
    own = {name: body for name, body in data(whole["Resources"]).items() if body["Metadata"]["Stack"] == stack}
    elsewhere = set(whole["Resources"]) - set(own)
    kept: dict[str, Entries] = {section: {} for section in SECTIONS}
    kept["Resources"] = {name: whole["Resources"][name] for name in own}
    for name, body in data(whole["Outputs"]).items():
        refers = names(body) & set(whole["Resources"])
        if refers <= set(own) and (refers or stack == "incident"):
            kept["Outputs"][name] = whole["Outputs"][name]
    for section, entries in part.items():
        if section in SECTIONS:
            kept[section].update(entries)
    if missing := names([data(kept["Resources"]), data(kept["Outputs"])]) & elsewhere:
        raise SystemExit(f"{stack}.yaml refers to what is in another stack: {', '.join(sorted(missing))}")
    # What they refer to, and what that refers to.
    while True:
        wanted = names([data(kept[section]) for section in SECTIONS])
        more = [
            (section, name)
            for section in ("Parameters", "Conditions")
            for name in whole[section]
            if name in wanted and name not in kept[section]
        ]
        if not more:
            break
        for section, name in more:
            kept[section][name] = whole[section][name]
    for name, body in data(whole.get("Rules", {})).items():
        if names(body) <= set(kept["Parameters"]):
            kept["Rules"][name] = whole["Rules"][name]
    for section in SECTIONS:
        order = [*whole.get(section, {}), *part.get(section, {})]
        kept[section] = {name: kept[section][name] for name in dict.fromkeys(order) if name in kept[section]}

    metadata = data({"": "Metadata:" + whole["Metadata"][""]})["Metadata"]["AWS::CloudFormation::Interface"]
    more_metadata = data({"": "Metadata:" + part["Metadata"][""]})["Metadata"] if "Metadata" in part else {}
    form = more_metadata.pop("AWS::CloudFormation::Interface", {"ParameterGroups": [], "ParameterLabels": {}})
    groups = [*form["ParameterGroups"], *metadata["ParameterGroups"]]
    labels = {**metadata["ParameterLabels"], **form["ParameterLabels"]}
    more_metadata = {"AWS::CloudFormation::Interface": interface(groups, labels, kept["Parameters"]), **more_metadata}

    text = f"# Made by `make templates` from template.yaml and parts/{stack}.yaml. Change those.\n"
    text += "AWSTemplateFormatVersion: '2010-09-09'\n"
    for section in ("Transform", "Description"):
        if section in part:
            text += f"{section}:{part[section]['']}".rstrip("\n") + "\n"
    text += "\n" + yaml.safe_dump({"Metadata": more_metadata}, sort_keys=False, width=140, allow_unicode=True)
    for section in SECTIONS:
        if kept[section]:
            between = "" if section in ("Rules", "Conditions", "Outputs") else "\n"
            text += f"\n{section}:\n" + between.join(kept[section].values())
    text = re.sub(r"^    Metadata: \{Stack: \w+\}\n|^      Stack: \w+\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^    Metadata:\n(?!      )", "", text, flags=re.MULTILINE)


def derived() -> dict[str, str]:
    """Every derived file."""
    found = {SOURCE: woven((ROOT / SOURCE).read_text(), lambda path: content(ROOT / path))}
    for stack, limit in STACKS.items():
        text = woven(cut(found[SOURCE], stack), lambda path: found[path] if path in found else content(ROOT / path))
        found[f"{stack}.yaml"] = text
        if (size := len(text.encode())) > limit:
            raise SystemExit(f"{stack}.yaml has {size} bytes: more than the {limit} that CloudFormation takes")
    return found


def main() -> None:
    stale = []
    for name, text in derived().items():
        path = ROOT / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if sys.argv[1:] != ["check"]:
            path.write_text(text)
            print(f"wrote {name}")
    if stale and sys.argv[1:] == ["check"]:
        raise SystemExit(f"not made from their sources: {', '.join(stale)}. Make them: make templates")


if __name__ == "__main__":
    main()
