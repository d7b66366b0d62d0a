"""Exports and imports between stacks, where ministack is more lenient than CloudFormation.

- A stack that imports what nobody exports fails as a whole, before any resource (widdix/aws-s3-virusscan#39); an update
  likewise (AnomalyInnovations/serverless-stack-demo-ext-resources#1).
- The stack that exports what another one imports is not deleted: DeleteStack answers, an event with the status of
  before says why (rlister/stax#40, aws/aws-cdk#604, USSBA/aws-cft-tools#27), and nothing else happens. One report has
  other words, "Delete canceled. Cannot delete export …" (aws/aws-cdk#33395).
- An update that removes such an export (aws/aws-cdk#7602) or changes its value (linz/geostore#630) is rolled back.
- A name that another stack exports is refused (aws-amplify/amplify-js#5811). That both are found once all resources
  are there is inferred.
- Every stack that exists imports, also one that failed: inferred from "you can't delete a stack if another stack
  references one of its outputs" (Fn::ImportValue).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Stack = dict[str, Any]


def imported(stack: Stack, template: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    """The names that a template imports, less those behind a condition that is false."""
    from ministack.services.cloudformation import engine

    conditions = engine._evaluate_conditions(template, parameters)

    def names(node: Any) -> Iterator[str]:
        if isinstance(node, dict) and "Fn::ImportValue" in node:
            argument = copy.deepcopy(node["Fn::ImportValue"])
            mappings = template.get("Mappings", {})
            yield str(
                engine._resolve_refs(
                    argument, {}, parameters, conditions, mappings, stack["StackName"], stack["StackId"]
                )
            )
        elif isinstance(node, dict) and "Fn::If" in node:
            condition, true, false = node["Fn::If"]
            yield from names(true if conditions.get(condition) else false)
        elif isinstance(node, (dict, list)):
            for item in node.values() if isinstance(node, dict) else node:
                yield from names(item)

    definitions = [*template.get("Resources", {}).values(), *template.get("Outputs", {}).values()]
    wanted = [body for body in definitions if conditions.get(body.get("Condition"), True)]
    return sorted({name for body in wanted for name in names(body)})


def missing(names: list[str]) -> str | None:
    """Why a stack with these imports fails; ministack keeps exports by account and Region, as AWS does."""
    from ministack.services.cloudformation import _exports

    return next((f"No export named {name} found" for name in names if name not in _exports), None)


def importers(name: str) -> list[str]:
    """The stacks that import a name."""
    from ministack.services.cloudformation import _stacks

    return sorted(
        stack_name
        for stack_name, stack in _stacks.items()
        if stack["StackStatus"] not in ("DELETE_COMPLETE", "REVIEW_IN_PROGRESS") and name in stack.get("_imports", [])
    )


def in_use(stack: Stack) -> str | None:
    """Why a stack is not deleted."""
    return next((reason for name in _own(stack) if (reason := _refusal(name, "deleted"))), None)


def unfit(stack: Stack, wanted: dict[str, dict[str, Any]]) -> str | None:
    """Why a stack may not come to have these exports."""
    from ministack.services.cloudformation import _exports, _stacks

    owners = {other["StackId"]: name for name, other in _stacks.items()}
    for name in wanted:
        owner = _exports.get(name, {}).get("StackId", stack["StackId"])
        if owner != stack["StackId"]:
            return f"Export with name {name} is already exported by stack {owners.get(owner, owner)}"
    for name, value in _own(stack).items():
        verb = "deleted" if name not in wanted else "updated"
        if (name not in wanted or wanted[name]["Value"] != value) and (reason := _refusal(name, verb)):
            return reason
    return None


def forget_removed(stack: Stack) -> None:
    """After an update: ministack keeps what the stack no longer exports."""
    from ministack.services.cloudformation import _exports

    kept = {output.get("ExportName") for output in stack.get("Outputs", [])}
    for name in _own(stack):
        if name not in kept:
            del _exports[name]


def list_imports(params: dict[str, Any]) -> Any:
    """ListImports, with every stack that exists."""
    from ministack.services.cloudformation import helpers

    name = helpers._p(params, "ExportName")
    names = importers(name)
    if not names:
        return helpers._error("ValidationError", f"Export '{name}' is not imported by any stack.")
    members = "".join(f"<member>{helpers._esc(importer)}</member>" for importer in names)
    result = f"<ListImportsResult><Imports>{members}</Imports></ListImportsResult>"
    return helpers._xml(200, "ListImportsResponse", result)


def _own(stack: Stack) -> dict[str, str]:
    from ministack.services.cloudformation import _exports

    return {name: export["Value"] for name, export in _exports.items() if export["StackId"] == stack["StackId"]}


def _refusal(name: str, verb: str) -> str | None:
    found = importers(name)
    return f"Export {name} cannot be {verb} as it is in use by {' and '.join(found)}" if found else None
