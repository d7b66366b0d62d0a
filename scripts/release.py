"""Puts together what a release consists of: `make release`, into target/release-assets.

    release.py program TARGET BINARY SPEAKER    an archive of the operator's program, with manual and completions
    release.py function                         the function and the templates that name it
    release.py sbom                             what is compiled into the two programs, as CycloneDX
    release.py sums                             SHA256SUMS of all that is there

SPEAKER is the program built for this machine: it says what its manual and completions are. `function` runs in the SAM
CLI's virtual environment, the rest with any Python. What is packed twice is the same byte by byte.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile
from time import gmtime

ROOT = pathlib.Path(__file__).parent.parent
ASSETS = ROOT / "target/release-assets"
NAME = "ec2-isolation"
FUNCTION = ROOT / ".aws-sam/build/IsolationFunction/bootstrap"
# Where the templates of a release find the function: beside them.
CODE = "function.zip"
TEMPLATES = ("template.yaml", "responder.yaml", "incident.yaml", "host.yaml", "credentials.yaml")
READ_FIRST = ("LICENSE-APACHE", "LICENSE-MIT", "README.md")
# Each shell, and how the name of its file ends.
COMPLETIONS = {"bash": "bash", "fish": "fish", "powershell": "ps1", "zsh": "zsh"}
Files = dict[str, tuple[bytes, int]]


def version() -> str:
    manifest = (ROOT / "Cargo.toml").read_text()
    return manifest.split('version = "', 1)[1].split('"', 1)[0]


def epoch() -> int:
    """The time of the commit: no archive depends on when it was made."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    return int(told or subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=ROOT))


def zipped(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (content, mode) in sorted(files.items()):
            entry = zipfile.ZipInfo(name, gmtime(epoch())[:6])
            entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def tarred(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, epoch()
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def put(name: str, content: bytes) -> None:
    ASSETS.mkdir(parents=True, exist_ok=True)
    (ASSETS / name).write_bytes(content)
    print(f"{ASSETS / name}: {len(content) / 2**20:.1f} MiB")


def read_first() -> Files:
    return {name: ((ROOT / name).read_bytes(), 0o644) for name in READ_FIRST}


def program(target: str, binary: str, speaker: str) -> None:
    is_windows = "windows" in target
    files = read_first()
    files[NAME + (".exe" if is_windows else "")] = (pathlib.Path(binary).read_bytes(), 0o755)
    files[f"{NAME}.1"] = (subprocess.check_output([speaker, "man"]), 0o644)
    for shell, ending in COMPLETIONS.items():
        files[f"completions/{NAME}.{ending}"] = (subprocess.check_output([speaker, "completions", shell]), 0o644)
    whole = f"{NAME}-{version()}-{target}"
    inside = {f"{whole}/{name}": file for name, file in files.items()}
    if is_windows:
        put(f"{whole}.zip", zipped(inside))
    else:
        put(f"{whole}.tar.gz", tarred(inside))


def plain(template: str) -> str:
    """Without the SAM transform, which a StackSet with service-managed permissions does not take."""
    from samtranslator.yaml_helper import yaml_parse
    from template import transformed

    # SAM wants to know a region, and a place in S3 for the code.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    result = transformed(yaml_parse(template.replace(f"CodeUri: {CODE}", "CodeUri: s3://bucket/key")))
    codes = [r["Properties"] for r in result["Resources"].values() if r["Type"] == "AWS::Lambda::Function"]
    for properties in codes:
        assert properties["Code"] == {"S3Bucket": "bucket", "S3Key": "key"}, properties["Code"]
        properties["Code"] = CODE
    return json.dumps(result, indent=1, default=str)


def templates() -> dict[str, str]:
    """The templates, with the function beside them."""
    found = {name: (ROOT / name).read_text() for name in TEMPLATES}
    for name, built in (
        ("template.yaml", "CodeUri: .  # not in responder.yaml"),
        ("responder.yaml", "CodeUri: .aws-sam/build/IsolationFunction"),
    ):
        assert found[name].count(built) == 1, f"{name} names its function differently: {built}"
        found[name] = found[name].replace(built, f"CodeUri: {CODE}")
    for name in ("responder", "template"):
        found[f"{name}-plain.json"] = plain(found[f"{name}.yaml"])
    return found


def function() -> None:
    code = zipped({"bootstrap": (FUNCTION.read_bytes(), 0o755)})
    files = read_first() | {CODE: (code, 0o644)}
    files |= {name: (text.encode(), 0o644) for name, text in templates().items()}
    put(f"{NAME}-{version()}-function.zip", code)
    whole = f"{NAME}-{version()}-templates"
    put(f"{whole}.zip", zipped({f"{whole}/{name}": file for name, file in files.items()}))


def sbom() -> None:
    """The program's for every system, the function's for the one that it runs on."""
    for binary, name, choice in (
        (NAME, "program", ["--features", "operator", "--target", "all"]),
        ("bootstrap", "function", ["--target", "x86_64-unknown-linux-gnu"]),
    ):
        command = [
            "cargo",
            "cyclonedx",
            "--quiet",
            "--format",
            "json",
            "--spec-version",
            "1.5",
            "--describe",
            "binaries",
        ]
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch())}
        subprocess.run(command + choice, cwd=ROOT, env=environment, check=True)
        text = (ROOT / f"{binary}_bin.cdx.json").read_text()
        for written in ROOT.glob("*_bin.cdx.json"):
            written.unlink()
        # Where it was built is nobody's business.
        put(f"{NAME}-{version()}-{name}.cdx.json", text.replace(f"file://{ROOT}", "file://.").encode())


def sums() -> None:
    """As `sha256sum --check` reads it."""
    files = sorted(path for path in ASSETS.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    put("SHA256SUMS", "".join(lines).encode())


if __name__ == "__main__":
    {"program": program, "function": function, "sbom": sbom, "sums": sums}[sys.argv[1]](*sys.argv[2:])
