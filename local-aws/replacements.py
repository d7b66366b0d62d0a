"""Which changed properties replace a resource, and that CloudFormation replaces none while rollback is disabled.

Sources: `createOnlyProperties` of the types' registry schemas, as cfn-lint carries them; for the refusal
aws/aws-sam-cli#4585 and smoketurner/serverless-vpc-plugin#1221: the resource fails. What came before it has been
updated by then, and what comes after it is not. What ministack has itself is as the schemas say, and refuses to replace
what has a name of its own. tests/it/template/stacks.rs holds that every type of our templates stands here.
"""

from __future__ import annotations

from typing import Any

import custom_resources
import ssm_documents

_RULE = ("CidrIp", "CidrIpv6", "FromPort", "GroupId", "IpProtocol", "ToPort")
# What ministack has itself.
_KNOWN = (
    "AWS::DynamoDB::Table",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
    "AWS::Lambda::Function",
    "AWS::SNS::Topic",
    "AWS::SQS::Queue",
    "AWS::SSM::Parameter",
    "AWS::StepFunctions::StateMachine",
)
_CREATE_ONLY: dict[str, tuple[str, ...]] = {
    "AWS::CloudWatch::Alarm": ("AlarmName",),
    "AWS::CloudWatch::Dashboard": ("DashboardName",),
    "AWS::EC2::Instance": (
        "AvailabilityZone",
        # The schema says: on conditions. Here always.
        "BlockDeviceMappings",
        "CpuOptions",
        "ElasticGpuSpecifications",
        "ElasticInferenceAccelerators",
        "EnclaveOptions",
        "HibernationOptions",
        "HostResourceGroupArn",
        "ImageId",
        "Ipv6AddressCount",
        "Ipv6Addresses",
        "KeyName",
        "LaunchTemplate",
        "LicenseSpecifications",
        "NetworkInterfaces",
        "PlacementGroupName",
        "PrivateIpAddress",
        "SecurityGroups",
        "SubnetId",
    ),
    "AWS::EC2::LaunchTemplate": ("LaunchTemplateName",),
    "AWS::EC2::SecurityGroup": ("GroupDescription", "GroupName", "VpcId"),
    "AWS::EC2::SecurityGroupEgress": (*_RULE, "DestinationPrefixListId", "DestinationSecurityGroupId"),
    "AWS::EC2::SecurityGroupIngress": (
        *_RULE,
        "GroupName",
        "SourcePrefixListId",
        "SourceSecurityGroupId",
        "SourceSecurityGroupName",
        "SourceSecurityGroupOwnerId",
    ),
    "AWS::Events::Rule": ("Name",),
    "AWS::Lambda::EventInvokeConfig": ("FunctionName", "Qualifier"),
    "AWS::Lambda::Permission": (
        "Action",
        "EventSourceToken",
        "FunctionName",
        "FunctionUrlAuthType",
        "InvokedViaFunctionUrl",
        "Principal",
        "PrincipalOrgID",
        "SourceAccount",
        "SourceArn",
    ),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    # The schema names none.
    "AWS::SQS::QueuePolicy": (),
    "AWS::SSM::Document": ("DocumentType", "Name"),
}


def install(provisioners: Any) -> None:
    """Tell ministack, which knows these types' properties not, or tells none of them from the others."""
    if missing := [kind for kind in _KNOWN if kind not in provisioners._REPLACING_PROPERTIES]:
        raise RuntimeError(f"ministack no longer knows what replaces {', '.join(missing)}: add it to replacements.py")
    provisioners._REPLACING_PROPERTIES.update(_CREATE_ONLY)
    provisioners._CUSTOM_NAME_REPLACEMENT["AWS::SSM::Document"] = {"name": "Name"}


def on_conditions(original: Any) -> Any:
    def replacing(resource_type: str, old: Any, new: Any) -> bool:
        """A document's content replaces it, unless its UpdateMethod says otherwise."""
        if resource_type == "AWS::SSM::Document" and ssm_documents.replaces(old, new):
            return True
        return bool(original(resource_type, old, new))

    return replacing


def check(stack: dict[str, Any], resource_type: str, old: Any, new: Any) -> None:
    """Refuse an update that CloudFormation refuses."""
    from ministack.services.cloudformation import provisioners

    if custom_resources.is_custom(resource_type) and old.get("ServiceToken") != new.get("ServiceToken"):
        # cloudcomponents/cdk-constructs#197
        raise RuntimeError("Modifying service token is not allowed.")
    if stack.get("_disables_rollback") and provisioners._replacing_change(resource_type, old, new):
        raise RuntimeError("Replacement type updates not supported on stack with disable-rollback.")
