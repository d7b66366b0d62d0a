"""What the trigger's state machine reads in each finding of events/findings/.

One JSON line for each file: verdict, ids and reason. Arguments set parameters: `Types=TTPs/`.
The expressions are the state machine's own, evaluated by ministack's Step Functions. Runs in the virtual environment of
the local AWS.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import yaml
from ministack.services import stepfunctions

ROOT = pathlib.Path(__file__).parent.parent
SUBSTITUTIONS = {
    "Account": "123456789012",
    "Partition": "aws",
    "Region": "us-east-1",
    "Severity": "HIGH",
    "Types": "",
}


def substituted(text: str) -> str:
    for name, value in SUBSTITUTIONS.items():
        text = text.replace("${" + name + "}", value)
    return text


def assigned(state: dict[str, Any], event: Any, variables: dict[str, Any]) -> dict[str, Any]:
    """The variables after this state."""
    context = {"variables": variables}
    values = {
        name: stepfunctions._evaluate_jsonata(substituted(text.strip()[2:-2]), event, context)
        for name, text in state["Assign"].items()
    }
    return {**variables, **values}


def main() -> None:
    SUBSTITUTIONS.update(argument.split("=", 1) for argument in sys.argv[1:])
    machine = yaml.safe_load((ROOT / "trigger/state-machine.asl.yaml").read_text())
    states = machine["States"]["Handle"]["Branches"][0]["States"]
    for path in sorted((ROOT / "events/findings").glob("*.json")):
        event = json.loads(path.read_text())
        variables: dict[str, Any] = {}
        for name in ("Read", "Judge"):
            variables = assigned(states[name], event, variables)
        print(json.dumps({"file": path.stem, **variables["judged"]}))


if __name__ == "__main__":
    main()
