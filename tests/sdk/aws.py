"""AWS on the provider's side: requests are verified by botocore."""

import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials

ACCESS_KEY = "AKIAGATEWAYTEST0001"
SECRET_KEY = "aws-SECRET-5d41402abc4b2a76b9719d911017c592"
REGION = "eu-central-1"


def check(request, access_key=ACCESS_KEY, secret_key=SECRET_KEY, token=None, region=REGION, service="bedrock"):
    """What is wrong with a request's signature; `None` when botocore signs the same request in the same way."""
    headers = request["headers"]
    given = headers.get("authorization", "")
    if not given.startswith("AWS4-HMAC-SHA256 "):
        return "Missing Authentication Token"
    fields = dict(part.strip().split("=", 1) for part in given.removeprefix("AWS4-HMAC-SHA256 ").split(","))
    signed = fields["SignedHeaders"].split(";")
    if token and (headers.get("x-amz-security-token") != token or "x-amz-security-token" not in signed):
        return "The security token included in the request is invalid"
    for name in ("host", "x-amz-date"):
        if name not in signed:
            return f"'{name}' must be a signed header"
    url = f"http://{headers['host']}{request['path']}" + (f"?{request['query']}" if request["query"] else "")
    copy = botocore.awsrequest.AWSRequest(
        method="POST", url=url, data=request["raw"], headers={name: headers[name] for name in signed if name != "host"}
    )
    signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(access_key, secret_key, token), service, region)
    copy.context["timestamp"] = headers["x-amz-date"]
    canonical = signer.canonical_request(copy)
    scope = f"{access_key}/{signer.credential_scope(copy)}"
    if fields["Credential"] != scope:
        return f"Credential should be scoped correctly: {fields['Credential']} is not {scope}"
    expected = signer.signature(signer.string_to_sign(copy, canonical), copy)
    if fields["Signature"] != expected:
        return "The request signature we calculated does not match the signature you provided"
    return None


def path_of(request):
    return urllib.parse.unquote(request["path"])
