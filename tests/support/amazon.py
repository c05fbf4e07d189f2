"""AWS, as far as moto's server plays it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer

ACCOUNT: Mapping[str, str] = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The environment of whoever has an account there."""

BUCKET = "slackwater"


@contextmanager
def amazon() -> Iterator[str]:
    """The URL of a server without anything in it, while the context lasts."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """The settings of servers whose files are in an empty bucket, while the context lasts."""
    with amazon() as url:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=ACCOUNT["AWS_REGION"],
            aws_access_key_id=ACCOUNT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ACCOUNT["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield {"SLACKWATER_BLOBS": f"s3://{BUCKET}/files", "AWS_ENDPOINT_URL_S3": url, **ACCOUNT}
