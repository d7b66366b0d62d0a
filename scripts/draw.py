"""Draws the pictures in docs/: `make docs`. The *.dot by graphviz, and measurements.svg from the page's own tables.

`draw.py check` says which picture is older than its source, or has text too small to read. A drawn *.dot carries the
digest of its source, so the check needs no graphviz, whose versions differ in their output. `draw.py measurements`
needs none either: `make bench PAGE=1` runs it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import html
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGE = DOCS / "measurements.md"
PLOT = DOCS / "measurements.svg"
FONT = "Helvetica, Arial, sans-serif"

# The width of a page on a forge, and the smallest text that can be read there, in pixels.
WIDTH = 890
SMALLEST = 11

# Every color of the pictures, with the one that takes its place where the reader prefers a dark page.
DARK = {
    "#ffffff": "#0d1117",  # the page
    "#0f172a": "#e6edf3",  # text
    "#475569": "#9da7b3",  # text that matters less, and lines
    "#cbd5e1": "#30363d",  # lines that matter less
    "#f1f5f9": "#1b222c",  # grey: what is neither
    "#eff6ff": "#101d33",  # blue: the responder, and what the program does
    "#3b82f6": "#4c8dff",
    "#1d6fa5": "#3d94d1",
    "#8cc4e8": "#1f4e70",
    "#fef2f2": "#2a1517",  # red: can be reached
    "#fecaca": "#5c2326",
    "#ef4444": "#e5534b",
    "#fde68a": "#5e4a12",  # amber: on the way
    "#f0fdf4": "#10261a",  # green: isolated
    "#bbf7d0": "#1b4a2c",
    "#22c55e": "#3fb950",
    "#d9a441": "#c08b2f",  # other programs
    "#a3adba": "#6b7684",
}


def style() -> str:
    # An attribute gives way to a rule, so what graphviz draws needs no classes.
    rules = (f'[{what}="{light}"]{{{what}:{dark}}}' for light, dark in DARK.items() for what in ("fill", "stroke"))
    return (
        f"<style>text{{fill:#0f172a}}@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}{''.join(rules)}}}</style>"
    )


def mark(source: pathlib.Path) -> str:
    digest = hashlib.sha256(source.read_bytes() + style().encode()).hexdigest()
    return f"<!-- made by `make docs` from {source.name}, sha256 {digest} -->"


def draw(source: pathlib.Path) -> str:
    """The picture with one pixel for a unit, readable in the light and in the dark."""
    svg = subprocess.run(["dot", "-Tsvg", source], check=True, capture_output=True, text=True).stdout
    svg = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', svg, count=2)
    svg = re.sub(r'font-family="[^"]*"', f'font-family="{FONT}"', svg)
    svg = re.sub(r"(<svg\b[^>]*>)", lambda start: f"{start[1]}\n{style()}", svg, count=1)
    return f"{svg.rstrip()}\n{mark(source)}\n"


def faults(svg: str) -> Iterator[str]:
    """What keeps a reader from reading the picture as wide as a page shows it."""
    width = float(svg.split('viewBox="', 1)[1].split('"', 1)[0].split()[2])
    smallest = min(map(float, re.findall(r'font-size="([\d.]+)"', svg))) * min(1.0, WIDTH / width)
    if smallest < SMALLEST:
        yield f"has text of {smallest:.1f} px on a page {WIDTH} px wide: at least {SMALLEST}"
    picture = re.sub(r"<style>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    colors = set(re.findall(r'(?:fill|stroke)="([^"]*)"', picture)) - {"none", "transparent"} - DARK.keys()
    if colors:
        yield f"has colors without a dark one in scripts/draw.py: {', '.join(sorted(colors))}"


def check() -> None:
    for picture in sorted(DOCS.glob("*.svg")):
        name, svg = picture.relative_to(DOCS.parent), picture.read_text()
        source = picture.with_suffix(".dot")
        is_fresh = svg == plot(PAGE.read_text()) if picture == PLOT else mark(source) in svg
        if not is_fresh:
            sys.exit(f"{name} is older than its source: make docs")
        for fault in faults(svg):
            sys.exit(f"{name} {fault}")
    for source in [*DOCS.glob("*.dot"), PAGE]:
        if not source.with_suffix(".svg").exists():
            sys.exit(f"{source.relative_to(DOCS.parent)} has no picture: make docs")


# The programs of the plot as the page names them, each with its name in the plot.
PROGRAMS = {
    "ec2-isolation": "ec2-isolation",
    "Python": "Python script",
    "c7n": "Cloud Custodian",
    "dredge-ir": "dredge-ir",
}
OURS, PASSING, SCRIPT, TOOL = "#1d6fa5", "#8cc4e8", "#d9a441", "#a3adba"
COLORS = {"ec2-isolation": OURS, "Python": SCRIPT}
LEGEND = {
    OURS: "ec2-isolation",
    PASSING: "ec2-isolation, by way of the transit group",
    SCRIPT: "Python script",
    TOOL: "public tools",
}


@dataclasses.dataclass
class Bar:
    name: str
    color: str
    seconds: float
    # When all are isolated, if they pass the transit group after that.
    isolated: float = 0
    # What the calls and EC2's limits take at least, if that is known.
    bound: float = 0


@dataclasses.dataclass
class Panel:
    title: str
    conditions: str
    # The ticks of the axis are so far apart.
    step: float
    # Each with its heading.
    groups: dict[str, list[Bar]]


def table(page: str, section: str) -> dict[str, dict[str, str]]:
    """The rows of a section by their name, each by the names of its columns. Empty if the page has no such section."""
    text = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {" ".join(name.split()): dict(zip(lines[0][1:], cells, strict=True)) for name, *cells in lines[2:]}


def seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) / {"s": 1, "ms": 1000}[unit]


def shown(time: float) -> str:
    return f"{time:.1f} s" if time >= 1 else f"{time * 1000:.0f} ms"


def measured(row: dict[str, str], name: str, color: str) -> Bar:
    """From the start of the process on."""
    init, last, settled = (seconds(row[column]) for column in ("init", "last", "settled"))
    return Bar(name, color, init + settled, init + last if last < settled else 0, seconds(row["bound"]))


def panels(page: str) -> Iterator[Panel]:
    rows, tools = table(page, "Rows"), table(page, "Public tools")
    latency = re.search(r"after (\d+) ms", page)[1]
    keystrokes = table(page, "From the keystroke to containment")
    if keystrokes:
        bars = []
        for name, row in keystrokes.items():
            program, _, how = name.partition(" ")
            is_passing = how.endswith("cut")
            color = PASSING if is_passing else COLORS.get(program, TOOL)
            known = PROGRAMS.get(program, program)
            bars.append(Bar(f"{known}, transit group" if is_passing else known, color, seconds(row["contained"])))
        yield Panel(
            "From the keystroke to contained",
            "one instance on the local AWS of the tests; the transit group holds it for 5 s",
            1,
            {"": bars},
        )

    groups: dict[str, list[Bar]] = {}
    for name, row in tools.items():
        program, count = name.split(": ")
        bars = groups.setdefault(f"{count} instance{'s' * (count != '1')}", [])
        like = rows.get(f"{program} isolate: {count}", {})
        bound = seconds(like["bound"]) if like else 0
        bars.append(Bar(PROGRAMS[program], COLORS.get(program, TOOL), seconds(row["last"]), bound=bound))
        passing = rows.get(f"{program} isolate, cut: {count}")
        if passing:
            bars.append(measured(passing, f"{PROGRAMS[program]}, transit group", PASSING))
    yield Panel(
        "From the start of the program until the last instance is isolated",
        f"without EC2's limits; each call takes {latency} ms; the transit group holds an interface for 1 s",
        1,
        groups,
    )

    bars = []
    for program, known in PROGRAMS.items():
        for act, name, color in (
            ("isolate", known, COLORS.get(program, TOOL)),
            ("isolate, cut", f"{known}, transit group", PASSING),
        ):
            row = rows.get(f"{program} {act}, buckets: 204")
            if row:
                bars.append(measured(row, name, color))
    if bars:
        yield Panel(
            "204 instances, with EC2's usual limits",
            "EC2 takes the first changes at once, then 5 a second; the transit group holds an interface for 1 s",
            20,
            {"": bars},
        )


def text(x: float, y: float, words: str, size: int = 13, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{more}>{html.escape(words)}</text>'


def rectangle(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{color}"/>'


def line(x: float, top: float, bottom: float, color: str, width: int) -> str:
    return f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{color}" stroke-width="{width}"/>'


def legend(y: float) -> Iterator[str]:
    x = 12.0
    for color, words in LEGEND.items():
        yield rectangle(x, y - 11, 14, 14, color)
        yield text(x + 20, y, words)
        x += 46 + 5.9 * len(words)
    yield line(x + 4, y - 12, y + 4, "#0f172a", 2)
    yield text(x + 12, y, "the least it can take")


def plot(page: str) -> str:
    """From the page's own tables: bars of one linear scale in each panel."""
    left, right, width = 210.0, 660.0, 880
    parts = [*legend(24)]
    y = 62.0
    for panel in panels(page):
        bars = [bar for group in panel.groups.values() for bar in group]
        ticks = 1 + int(max(bar.seconds for bar in bars) / panel.step)
        scale = (right - left) / (ticks * panel.step)
        parts += [text(12, y, panel.title, 15, ' font-weight="bold"'), text(12, y + 19, panel.conditions)]
        top = y = y + 32
        rows = []
        for heading, group in panel.groups.items():
            if heading:
                rows.append(text(12, y + 14, heading, 13, ' font-weight="bold"'))
                y += 21
            for bar in group:
                end = left + bar.seconds * scale
                rows += [
                    text(left - 8, y + 13, bar.name, 13, ' text-anchor="end"'),
                    rectangle(left, y, end - left, 16, bar.color),
                ]
                words = shown(bar.seconds)
                if bar.isolated:
                    rows.append(rectangle(left, y, bar.isolated * scale, 16, OURS))
                    words += f", isolated after {shown(bar.isolated)}"
                if bar.bound:
                    rows.append(line(left + bar.bound * scale, y - 2, y + 18, "#0f172a", 2))
                rows.append(text(end + 7, y + 13, words, 13, ' stroke="#ffffff" stroke-width="4" paint-order="stroke"'))
                y += 21
            y += 5
        for tick in range(ticks + 1):
            x = left + tick * panel.step * scale
            parts.append(line(x, top - 3, y, "#cbd5e1", 1))
            parts.append(text(x, y + 15, f"{tick * panel.step:g} s", 12, ' text-anchor="middle"'))
        parts += rows
        y += 56
    y -= 30
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y:.0f}" viewBox="0 0 {width} {y:.0f}" '
        f'font-family="{FONT}">\n<title>How long it takes until instances are isolated</title>\n{style()}\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def main() -> None:
    if sys.argv[1:] == ["check"]:
        check()
        return
    if sys.argv[1:] != ["measurements"]:
        for source in sorted(DOCS.glob("*.dot")):
            source.with_suffix(".svg").write_text(draw(source))
    PLOT.write_text(plot(PAGE.read_text()))


if __name__ == "__main__":
    main()
