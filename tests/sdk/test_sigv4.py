"""The judge of AWS signatures judges: it takes what botocore signs and refuses whatever was changed since."""

import pytest
from conftest import not_run

from check_sigv4 import problem

KEYS = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalr/+EXAMPLEKEY", "region": "us-east-1", "session_token": "tok/en=="}
BODY = b'{"messages":[]}'


@pytest.fixture
def head():
    try:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
    except ImportError:
        not_run("signatures of AWS (tests/sdk/requirements-aws.txt is not installed)")
    host = "bedrock-runtime.us-east-1.amazonaws.com"
    path = "/model/us.anthropic.claude-v1%3A0/converse"
    request = AWSRequest("POST", f"https://{host}{path}", {"content-type": "application/json"}, BODY)
    credentials = Credentials(KEYS["access_key"], KEYS["secret_key"], KEYS["session_token"])
    SigV4Auth(credentials, "bedrock", "us-east-1").add_auth(request)
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", *(f"{name}: {value}" for name, value in request.headers.items())]
    return "\r\n".join(lines)


def test_what_botocore_signs_is_right(head):
    assert problem(head, BODY, **KEYS) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda head: (head.replace("%3A", ":"), BODY, KEYS),
        lambda head: (head.replace("/converse", "/converse-stream"), BODY, KEYS),
        lambda head: (head.replace("application/json", "text/plain"), BODY, KEYS),
        lambda head: (head.replace("host: ", "host: x"), BODY, KEYS),
        lambda head: (head.replace("tok/en==", "other"), BODY, KEYS),
        lambda head: (head.replace("content-type;", "", 1), BODY, KEYS),
        lambda head: (head + "\r\nhost: twice", BODY, KEYS),
        lambda head: (head.replace("Authorization", "X-Other"), BODY, KEYS),
        lambda head: (head, BODY + b" ", KEYS),
        lambda head: (head, BODY, {**KEYS, "secret_key": "other"}),
        lambda head: (head, BODY, {**KEYS, "region": "eu-west-1"}),
        lambda head: (head, BODY, {**KEYS, "service": "bedrock-mantle"}),
        lambda head: (head, BODY, {**KEYS, "session_token": None}),
    ],
)
def test_what_was_changed_is_wrong(head, change):
    changed, body, keys = change(head)
    assert (changed, body, keys) != (head, BODY, KEYS)
    assert problem(changed, body, **keys)
