"""Documents of Systems Manager, which ministack does not know: the API, AWS::SSM::Document, and templates in documents.

Sources: the API reference of each call; for AWS::SSM::Document its registry schema, aws-cloudformation-resource-
providers-ssm#205 (a new version becomes the default one) and aws-systems-manager-cloudformation-samples#7 (a document
with a name of its own is not replaced). `ssm-doc://` in a TemplateURL: Systems Manager user guide, "Working with
CloudFormation templates".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from moto_ec2 import ACCOUNT, REGION
from resources import Properties, Provisioned, invented_name

# CreateDocument, API reference
MAX_CONTENT_BYTES = 64 * 1024
_NAME = re.compile(r"[a-zA-Z0-9_\-.]{3,128}")
_RESERVED = ("aws", "amazon", "amzn", "AWSEC2", "AWSConfigRemediation", "AWSSupport")
URL_SCHEME = "ssm-doc://"
# `conditionalCreateOnlyProperties` of the registry schema: what makes a version, or a new document.
VERSIONED = ("Attachments", "Content", "DocumentFormat", "Requires", "TargetType", "VersionName")
ARN_PREFIX = f"arn:aws:ssm:{REGION}:{ACCOUNT}:document/"

Data = dict[str, Any]


class Refused(Exception):
    """An error of the API."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} (Service: Ssm, Status Code: 400, Error Code: {code})")
        self.code, self.message = code, message


@dataclass
class _Version:
    content: str
    document_format: str
    version_name: str | None
    created: float = field(default_factory=time.time)


@dataclass
class _Document:
    name: str
    document_type: str
    target_type: str
    versions: list[_Version]
    default: int = 1
    tags: dict[str, str] = field(default_factory=dict)


_documents: dict[str, _Document] = {}


# --- The API ----------------------------------------------------------------------------------------------------------


def arn(name: str) -> str:
    """A document may be named by its ARN, too."""
    return name if name.startswith("arn:") else ARN_PREFIX + name


def _find(name: str) -> _Document:
    document = _documents.get(arn(name).removeprefix(ARN_PREFIX))
    if document is None:
        raise Refused("InvalidDocument", f"Document with name {name} does not exist.")
    return document


def _number(document: _Document, version: str) -> int:
    named = {"": document.default, "$DEFAULT": document.default, "$LATEST": len(document.versions)}
    number = named.get(version, int(version) if version.isdigit() else 0)
    if not 1 <= number <= len(document.versions):
        raise Refused("InvalidDocumentVersion", f"Version {version} of document {document.name} does not exist.")
    return number


def _version(data: Data) -> _Version:
    """The content is not looked into, other than JSON's syntax: what is in a template is the template's."""
    content, document_format = data["Content"], data.get("DocumentFormat", "JSON")
    if len(content.encode()) > MAX_CONTENT_BYTES:
        raise Refused("MaxDocumentSizeExceeded", "The size limit of a document is 64 KB.")
    if document_format not in ("JSON", "YAML", "TEXT"):
        raise Refused("InvalidDocumentContent", f"Document format {document_format} is not supported.")
    if document_format == "JSON":
        try:
            json.loads(content)
        except ValueError as error:
            raise Refused("InvalidDocumentContent", f"The content is no valid JSON: {error}") from None
    return _Version(content, document_format, data.get("VersionName"))


def create(data: Data) -> _Document:
    """CreateDocument"""
    name = data["Name"]
    if not _NAME.fullmatch(name) or name.startswith(_RESERVED):
        raise Refused("ValidationException", f"{name} is no name that a document may have.")
    if name in _documents:
        # tmknom/terraform-aws-session-manager#34
        raise Refused("DocumentAlreadyExists", f"Document with same name {name} already exists")
    tags = {tag["Key"]: tag["Value"] for tag in data.get("Tags", [])}
    kind, target = data.get("DocumentType", "Command"), data.get("TargetType", "")
    document = _documents[name] = _Document(name, kind, target, [_version(data)], tags=tags)
    return document


def update(data: Data) -> _Document:
    """UpdateDocument makes a version; it is not the default one."""
    document, version = _find(data["Name"]), _version(data)
    if "DocumentVersion" in data and _number(document, data["DocumentVersion"]) != len(document.versions):
        raise Refused("InvalidDocumentVersion", "Only the latest version of a document can be updated.")
    if version.content == document.versions[-1].content:
        text = "The content of the association document matches another document. Change the content of the document"
        raise Refused("DuplicateDocumentContent", f"{text} and try again.")
    if version.version_name and version.version_name in {known.version_name for known in document.versions}:
        raise Refused("DuplicateDocumentVersionName", "The version name has already been used in this document.")
    document.versions.append(version)
    return document


def _described(document: _Document, number: int) -> Data:
    version = document.versions[number - 1]
    return {
        "Name": document.name,
        "DocumentType": document.document_type,
        "DocumentFormat": version.document_format,
        "DocumentVersion": str(number),
        "DefaultVersion": str(document.default),
        "LatestVersion": str(len(document.versions)),
        "TargetType": document.target_type,
        "CreatedDate": version.created,
        "Owner": ACCOUNT,
        "Status": "Active",
        "Tags": [{"Key": key, "Value": value} for key, value in document.tags.items()],
        **({"VersionName": version.version_name} if version.version_name else {}),
    }


def _create(data: Data) -> Data:
    return {"DocumentDescription": _described(create(data), 1)}


def _update(data: Data) -> Data:
    document = update(data)
    return {"DocumentDescription": _described(document, len(document.versions))}


def _set_default(data: Data) -> Data:
    document = _find(data["Name"])
    document.default = _number(document, data["DocumentVersion"])
    return {"Description": {"Name": document.name, "DefaultVersion": str(document.default)}}


def _get(data: Data) -> Data:
    document = _find(data["Name"])
    number = _number(document, data.get("DocumentVersion", ""))
    return {**_described(document, number), "Content": document.versions[number - 1].content}


def _describe(data: Data) -> Data:
    document = _find(data["Name"])
    return {"Document": _described(document, _number(document, data.get("DocumentVersion", "")))}


def _list_versions(data: Data) -> Data:
    document = _find(data["Name"])
    numbers = range(1, len(document.versions) + 1)
    shown = [{**_described(document, n), "IsDefaultVersion": n == document.default} for n in numbers]
    return {"DocumentVersions": shown}


def _delete(data: Data) -> Data:
    del _documents[_find(data["Name"]).name]
    return {}


_CALLS: dict[str, Callable[[Data], Data]] = {
    "CreateDocument": _create,
    "DeleteDocument": _delete,
    "DescribeDocument": _describe,
    "GetDocument": _get,
    "ListDocumentVersions": _list_versions,
    "UpdateDocument": _update,
    "UpdateDocumentDefaultVersion": _set_default,
}


def handling(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """ministack's SSM with documents."""
    from ministack.core.responses import error_response_json, json_response

    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Any:
        call = _CALLS.get(headers.get("x-amz-target", "").rpartition(".")[2])
        if call is None:
            return await original(method, path, headers, body, query)
        try:
            return json_response(call(json.loads(body)))
        except Refused as refused:
            return error_response_json(refused.code, refused.message, 400)

    return handle


def authorised_by_arn(original: Callable[..., str]) -> Callable[..., str]:
    """ministack takes the name of a document for that of a parameter."""

    def resource(service: str, method: str, path: str, headers: dict[str, str], body: bytes, *rest: Any) -> str:
        if service == "ssm" and headers.get("x-amz-target", "").rpartition(".")[2] in _CALLS:
            return arn(json.loads(body)["Name"])
        return original(service, method, path, headers, body, *rest)

    return resource


# --- AWS::SSM::Document -----------------------------------------------------------------------------------------------


def replaces(old: Properties, new: Properties) -> bool:
    """UpdateMethod Replace, which is the default, replaces the document when its content changes."""
    changed = any(old.get(name) != new.get(name) for name in VERSIONED)
    return changed and new.get("UpdateMethod", "Replace") != "NewVersion"


def _data(name: str, properties: Properties) -> Data:
    """The arguments of the API. Content is a text as it is, or an object, written in the document's format."""
    content = properties["Content"]
    if not isinstance(content, str):
        yaml_wanted = properties.get("DocumentFormat") == "YAML"
        content = yaml.safe_dump(content, sort_keys=False) if yaml_wanted else json.dumps(content)
    return {**properties, "Name": name, "Content": content}


def _create_resource(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    name = properties.get("Name") or invented_name(stack_name, logical_id)
    create(_data(name, properties))
    return name, {}


def _update_resource(physical_id: str, old: Properties, new: Properties, _stack_name: str) -> Provisioned:
    if any(old.get(name) != new.get(name) for name in VERSIONED):
        document = update(_data(physical_id, new))
        document.default = len(document.versions)
    _find(physical_id).tags = {tag["Key"]: tag["Value"] for tag in new.get("Tags", [])}
    return physical_id, {}


def _delete_resource(physical_id: str, _properties: Properties) -> None:
    """A document that is gone already is deleted."""
    _documents.pop(physical_id, None)


HANDLERS = {"create": _create_resource, "update": _update_resource, "delete": _delete_resource}


# --- Templates in documents -------------------------------------------------------------------------------------------


def template(url: str) -> str | None:
    """The template behind a TemplateURL, None where it is no document's. Raises `ValueError` with the refusal.

    The default version counts, and no form with a version is documented (both inferred). The wording is ours.
    """
    if not url.startswith(URL_SCHEME):
        return None
    try:
        document = _find(url.removeprefix(URL_SCHEME))
    except Refused:
        raise ValueError(f"TemplateURL {url} names no document of this account and Region.") from None
    if document.document_type != "CloudFormation":
        raise ValueError(f"TemplateURL {url} names a document of type {document.document_type}, not CloudFormation.")
    return document.versions[document.default - 1].content
