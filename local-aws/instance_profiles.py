"""Instance profiles: EC2's associations, with the profiles of ministack's IAM, which moto does not know."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from moto.ec2.models import iam_instance_profile as moto_model
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociation
from moto.ec2.responses import instances as moto_responses
from moto.ec2.responses.iam_instance_profiles import IamInstanceProfiles

from ec2_rules import Params, Refusal, instance_by_id, rule, state_of
from protections import refuse_dry_run

_PARAMETERS = {"IamInstanceProfile.Arn": "arn", "IamInstanceProfile.Name": "name"}


def find(params: Params) -> dict[str, Any] | None:
    """ministack's record of the profile that a call names, if it exists."""
    from ministack.services import iam

    named = {argument: params[name] for name, argument in _PARAMETERS.items() if name in params}
    record: dict[str, Any] | None = iam._lookup_instance_profile(**named)
    return record


def role_arns(params: Params) -> list[str]:
    """The role of the profile that a call names: the caller passes it to EC2."""
    from ministack.services import iam

    record = find(params)
    return [iam._roles[name]["Arn"] for name in record["Roles"]] if record else []


@rule("RunInstances", "AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation")
def _profile_exists(_backend: Any, params: Params) -> None:
    for name, argument in _PARAMETERS.items():
        if name in params and find(params) is None:
            # lacework/go-sdk PR#1045 (Arn), CiscoDevNet/cloud-cml#4 (Name)
            kind = "ARN" if argument == "arn" else "name"
            raise Refusal(
                "InvalidParameterValue",
                f"Value ({params[name]}) for parameter iamInstanceProfile.{argument} is invalid. Invalid IAM Instance "
                f"Profile {kind}",
            )


@rule("AssociateIamInstanceProfile")
def _associate(backend: Any, params: Params) -> None:
    instance = instance_by_id(backend, params.get("InstanceId", ""))
    if state_of(instance) not in ("running", "stopped"):
        # Enterprise-CMCS/eAPD#2304
        raise Refusal(
            "IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'running' or 'stopped' states."
        )
    if instance.id in backend.iam_instance_profile_associations:
        # aws-samples/one-observability-demo#201, aws-samples/aws-cloud9-bootstrapping-example#5
        raise Refusal("IncorrectState", f"There is an existing association for instance {instance.id}")
    refuse_dry_run(params)


@rule("DisassociateIamInstanceProfile")
def _disassociate(backend: Any, params: Params) -> None:
    known = backend.iam_instance_profile_associations.values()
    if params.get("AssociationId") not in {association.association_id for association in known}:
        # API errors: InvalidAssociationID.NotFound
        raise Refusal(
            "InvalidAssociationID.NotFound", f"The association ID '{params.get('AssociationId')}' does not exist"
        )
    refuse_dry_run(params)


def repair_moto() -> None:
    """Make moto look profiles up in ministack's IAM, show their own id and cut at MaxResults. Call once, at start."""
    moto_model.filter_iam_instance_profiles = _look_up
    moto_responses.filter_iam_instance_profiles = _look_up
    IamInstanceProfileAssociation.__init__ = _with_profile_id(IamInstanceProfileAssociation.__init__)
    described = IamInstanceProfiles.describe_iam_instance_profile_associations
    IamInstanceProfiles.describe_iam_instance_profile_associations = _paged(described)


def _look_up(
    _account: str, partition: str, iam_instance_profile_arn: str | None, iam_instance_profile_name: str | None
) -> SimpleNamespace:
    named = {"IamInstanceProfile.Arn": iam_instance_profile_arn, "IamInstanceProfile.Name": iam_instance_profile_name}
    record = find({name: value for name, value in named.items() if value})
    if record is None:
        raise LookupError(f"no such instance profile in {partition}: the rule above refuses it")
    return SimpleNamespace(arn=record["Arn"], id=record["InstanceProfileId"], name=record["InstanceProfileName"])


def _with_profile_id(original: Callable[..., None]) -> Callable[..., None]:
    def initialise(association: Any, *arguments: Any) -> None:
        """DescribeInstances shows the id of the profile; moto shows that of the association."""
        original(association, *arguments)
        association.instance.iam_instance_profile["Id"] = association.iam_instance_profile.id

    return initialise


def _paged(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def describe(response: Any) -> Any:
        """moto knows the parameter by another name."""
        read = response._get_param
        response._get_param = lambda name, *rest: read("MaxResults" if name == "MaxItems" else name, *rest)
        return original(response)

    return describe
