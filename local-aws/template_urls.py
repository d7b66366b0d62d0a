"""Templates by their address in S3, with the bucket in the host's name: ministack finds the bucket in the path only.

S3 is asked with the rights of the caller (awslabs/sagemaker-explaining-credit-decisions#1, F5Networks/
f5-aws-cloudformation#68: the wording). That an object which does not exist is told in the same way is inferred.
"""

from __future__ import annotations

import re

import authorisation
import moto_ec2

# S3 user guide, "Virtual hosting of buckets".
_ADDRESS = re.compile(r"https://(?P<bucket>[a-z0-9][a-z0-9.-]+)\.s3[.-](?:[a-z0-9-]+\.)?amazonaws\.com/(?P<key>.+)")
_REFUSED = "S3 error: {}\nFor more information check http://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"


def as_ministack_has_it(url: str) -> str:
    """The address with the bucket in its path, if it is in the host's name. Raises `ValueError` with the refusal."""
    from ministack.services import s3

    if (found := _ADDRESS.fullmatch(url)) is None:
        return url
    read = authorisation.Check("s3:GetObject", f"arn:aws:s3:::{found['bucket']}/{found['key']}")
    if authorisation.denial(moto_ec2.REGION, *authorisation.caller.get(), read):
        raise ValueError(_REFUSED.format("Access Denied"))
    if s3._get_object_data(found["bucket"], found["key"]) is None:
        raise ValueError(_REFUSED.format("The specified key does not exist."))
    return f"https://s3.amazonaws.com/{found['bucket']}/{found['key']}"
