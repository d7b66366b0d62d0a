"""What is measured against: isolation as the usual walk-through has it, in Python with boto3, on Lambda.

One instance after the other: describe it, write its groups to DynamoDB, put the isolation group on it; then snapshots
and a tag for each. Nothing is verified, nothing is read again, no error is handled, no connection is cut. Where it had
a choice, it got the faster one: clients are made once, at the start; the groups of a lone interface are set on the
instance, without another look; all instances are isolated before the first snapshot; and this Runtime API client does
less than Lambda's own.
"""

import http.client
import json
import os
import urllib.parse

import boto3
import urllib3

ec2 = boto3.client("ec2")
table = boto3.client("dynamodb")
TABLE = os.environ["SECURITY_GROUP_TABLE_NAME"]
http_pool = urllib3.PoolManager()


def isolate(properties):
    group = properties["IsolatedSecurityGroupId"]
    instances = []
    for instance_id in properties["InstanceIds"]:
        reservations = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        instance = reservations[0]["Instances"][0]
        instances.append(instance)
        interfaces = {
            interface["NetworkInterfaceId"]: [own["GroupId"] for own in interface["Groups"]]
            for interface in instance["NetworkInterfaces"]
        }
        table.put_item(
            TableName=TABLE,
            Item={"InstanceId": {"S": instance_id}, "Interfaces": {"S": json.dumps(interfaces)}},
        )
        set_groups(instance_id, {interface: [group] for interface in interfaces})
    for instance in instances:
        ec2.create_snapshots(
            InstanceSpecification={"InstanceId": instance["InstanceId"]},
            TagSpecifications=[
                {"ResourceType": "snapshot", "Tags": [{"Key": "Purpose", "Value": properties["Purpose"]}]}
            ],
        )
        ec2.create_tags(Resources=[instance["InstanceId"]], Tags=[{"Key": "Purpose", "Value": properties["Purpose"]}])


def restore(properties):
    for instance_id in properties["InstanceIds"]:
        item = table.get_item(TableName=TABLE, Key={"InstanceId": {"S": instance_id}})["Item"]
        set_groups(instance_id, json.loads(item["Interfaces"]["S"]))
        table.delete_item(TableName=TABLE, Key={"InstanceId": {"S": instance_id}})


def set_groups(instance_id, interfaces):
    if len(interfaces) == 1:
        (groups,) = interfaces.values()
        ec2.modify_instance_attribute(InstanceId=instance_id, Groups=groups)
        return
    for interface, groups in interfaces.items():
        ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=groups)


def handle(event):
    if event["RequestType"] == "Delete":
        restore(event["ResourceProperties"])
    else:
        isolate(event["ResourceProperties"])
    answer = {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    answer |= {"Status": "SUCCESS", "PhysicalResourceId": event["StackId"], "Data": {}}
    http_pool.request("PUT", event["ResponseURL"], body=json.dumps(answer), headers={"content-type": ""})


def main():
    runtime = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        runtime.request("GET", "/2018-06-01/runtime/invocation/next")
        response = runtime.getresponse()
        event = json.loads(response.read())
        invocation = urllib.parse.quote(response.headers["Lambda-Runtime-Aws-Request-Id"])
        handle(event)
        runtime.request("POST", f"/2018-06-01/runtime/invocation/{invocation}/response", body="{}")
        runtime.getresponse().read()


main()
