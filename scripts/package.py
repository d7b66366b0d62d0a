"""Uploads what was built, so that nobody has to build during an incident: `make package BUCKET=…`.

Runs in the SAM CLI's virtual environment. Prints the address that opens the console with the template filled in, and
the command that does the same. The objects are read with the credentials of whoever deploys: the bucket stays private.
"""

from __future__ import annotations

import hashlib
import pathlib
import subprocess
import sys
from urllib.parse import quote

import boto3

BUILT = ".aws-sam/build/template.yaml"
PACKAGED = pathlib.Path("target/package/template.yaml")
PREFIX = "ec2-isolation"
CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
SUFFIXES = {"aws-cn": "amazonaws.com.cn"}


def main(bucket: str, operators_program: str) -> None:
    s3 = boto3.client("s3")
    # The bucket of us-east-1 says nothing.
    region = s3.get_bucket_location(Bucket=bucket).get("LocationConstraint") or "us-east-1"
    PACKAGED.parent.mkdir(parents=True, exist_ok=True)
    sam = pathlib.Path(sys.executable).with_name("sam")
    where = ["--s3-bucket", bucket, "--s3-prefix", PREFIX, "--region", region]
    subprocess.run(
        [sam, "package", "--template-file", BUILT, *where, "--output-template-file", PACKAGED],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    # Named after its content: what a stack was made of stays what it was.
    digest = hashlib.sha256(PACKAGED.read_bytes()).hexdigest()[:16]
    key = f"{PREFIX}/template-{digest}.yaml"
    s3.upload_file(str(PACKAGED), bucket, key)
    s3.upload_file(operators_program, bucket, f"{PREFIX}/ec2-isolation")
    print("The operator's program, also in CloudShell:\n")
    fetch = f"aws s3 cp s3://{bucket}/{PREFIX}/ec2-isolation . && chmod +x ec2-isolation"
    print(f"  {fetch} && ./ec2-isolation status --stack incident-42\n")

    partition = boto3.session.Session().get_partition_for_region(region)
    url = f"https://{bucket}.s3.{region}.{SUFFIXES.get(partition, 'amazonaws.com')}/{key}"
    console = f"https://{region}.{CONSOLES.get(partition, CONSOLES['aws'])}/cloudformation/home?region={region}"
    print("In the console (under 'Stack failure options' choose 'Preserve successfully provisioned resources'):\n")
    print(f"  {console}#/stacks/create/review?templateURL={quote(url, safe='')}&stackName=incident-42\n")
    print("With the AWS CLI:\n")
    print(f"  aws cloudformation create-stack --region {region} --stack-name incident-42 --template-url {url} \\")
    print("    --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --disable-rollback --parameters \\")
    for parameter in (
        "VpcId=vpc-…",
        "CompromisedInstanceList='i-…\\,i-…'",
        "ForensicSubnetId=subnet-…",
        "Ec2KeyName=…",
        "CompanyIp=…",
    ):
        name, _, value = parameter.partition("=")
        print(f"    ParameterKey={name},ParameterValue={value}" + ("" if name == "CompanyIp" else " \\"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
