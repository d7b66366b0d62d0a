"""Draws docs/*.dot as SVG: `make docs` (needs graphviz). `draw.py check` says which picture is older than its source.

The picture carries the digest of its source, so the check needs no graphviz, whose versions differ in their output.
"""

from __future__ import annotations

import hashlib
import pathlib
import subprocess
import sys

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def mark(source: pathlib.Path) -> str:
    return f"<!-- made by `make docs` from {source.name}, sha256 {hashlib.sha256(source.read_bytes()).hexdigest()} -->"


def main() -> None:
    for source in sorted(DOCS.glob("*.dot")):
        picture = source.with_suffix(".svg")
        if sys.argv[1:] == ["check"]:
            if not picture.exists() or mark(source) not in picture.read_text():
                sys.exit(f"{picture.relative_to(DOCS.parent)} is older than its source: make docs")
            continue
        drawn = subprocess.run(["dot", "-Tsvg", source], check=True, capture_output=True, text=True).stdout
        picture.write_text(drawn.rstrip() + "\n" + mark(source) + "\n")


if __name__ == "__main__":
    main()
