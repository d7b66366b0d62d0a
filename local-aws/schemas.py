"""What the registry schemas of resource types say replaces a resource, as cfn-lint carries them.

They are read as files, since importing cfn-lint takes a second. What a schema leaves to conditions is judged here for
the properties that our templates have: `make check` fails if one is left out. Imports nothing of ministack's, since
scripts/template.py says with it which parameter replaces what.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import pathlib
from typing import Any

# Type and property: whether a change replaces the resource.
ON_CONDITIONS = {
    # ministack, from the resource reference: a table keeps its keys.
    ("AWS::DynamoDB::Table", "KeySchema"): True,
    # "Modifying any other parameter [than DeleteOnTermination] results in instance replacement": here any.
    ("AWS::EC2::Instance", "BlockDeviceMappings"): True,
    # Resource reference, of an instance whose root is a volume: it is stopped and started.
    ("AWS::EC2::Instance", "InstanceType"): False,
    ("AWS::EC2::Instance", "UserData"): False,
    # UpdateMethod NewVersion, which ours have. With another one ssm_documents.py replaces it.
    ("AWS::SSM::Document", "Content"): False,
    ("AWS::SSM::Document", "DocumentFormat"): False,
}


@functools.cache
def _folder() -> pathlib.Path:
    # Found without being imported.
    found = importlib.util.find_spec("cfnlint")
    if found is None or found.origin is None:
        raise RuntimeError("cfn-lint is not there: its schemas say what replaces a resource")
    return pathlib.Path(found.origin).parent / "data" / "schemas"


@functools.cache
def _files() -> dict[str, str]:
    return dict(json.loads((_folder() / "providers" / "us-east-1.json").read_text()))


@functools.cache
def of(kind: str) -> dict[str, Any] | None:
    """The schema of a type. None for a custom resource, and for what cfn-lint does not know."""
    name = _files().get(kind)
    return None if name is None else dict(json.loads((_folder() / "resources" / f"{name}.json").read_text()))


def create_only(kind: str, section: str = "createOnlyProperties") -> list[tuple[str, ...]]:
    """The properties of a type whose change replaces it, as ways into them. A list is looked at as a whole."""
    ways = [pointer.removeprefix("/properties/").split("/") for pointer in (of(kind) or {}).get(section, [])]
    return [tuple(way[: way.index("*")] if "*" in way else way) for way in ways]


def on_conditions(kind: str) -> list[str]:
    """The properties of a type whose change may replace it."""
    return sorted({way[0] for way in create_only(kind, "conditionalCreateOnlyProperties")})


def judged(kind: str, name: str) -> bool:
    """Whether it was judged if a property, whose change may replace its resource, does so."""
    return (kind, name) in ON_CONDITIONS


def replacing(kind: str) -> list[tuple[str, ...]]:
    """The same, with those that do so on conditions, as far as it was judged."""
    return create_only(kind) + [(name,) for (of, name), replaces in ON_CONDITIONS.items() if of == kind and replaces]


def at(properties: Any, way: tuple[str, ...]) -> Any:
    """What is at the end of a way, if it leads anywhere."""
    for name in way:
        properties = properties.get(name) if isinstance(properties, dict) else None
    return properties
