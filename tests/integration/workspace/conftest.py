"""S3, as far as moto's server plays it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import boto3
import pytest
from support.amazon import ACCOUNT, amazon

from slackwater.aws import clients

BUCKET = "files"


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with amazon() as url:
        yield url


@pytest.fixture
def s3_environment(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment of whoever uses it, which has an empty bucket. This process uses it."""
    urllib.request.urlopen(urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST")).close()
    environment = {"AWS_ENDPOINT_URL_S3": moto_url, **ACCOUNT}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    clients.forget()
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield environment
    clients.forget()
