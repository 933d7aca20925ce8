"""Verifies the AWS signature of a request as it came over the wire, with botocore as the judge.

    check_sigv4.py --access-key AKIA... --secret-key ... --region us-east-1 [--service bedrock] < raw-request

Exits 0 when the signature is what botocore makes of the same request, 1 when it is not, 2 without botocore.
As a module: `problem(head, body, ...)` gives None or a sentence.
"""

import argparse
import datetime
import re
import sys

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)
MUST_BE_SIGNED = {"host", "x-amz-date", "content-type"}


def parse(raw):
    """Method, target and header lines of a request head, in bytes or text."""
    text = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    lines = text.strip("\r\n").split("\r\n")
    method, target, version = lines[0].split(" ")
    assert version == "HTTP/1.1", version
    headers = [(name.lower(), value.strip()) for name, value in (line.split(":", 1) for line in lines[1:])]
    return method, target, headers


def problem(head, body, access_key, secret_key, region, service="bedrock", session_token=None):
    """What is wrong with a request's signature; None when nothing is."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    method, target, lines = parse(head)
    headers = dict(lines)
    if len(headers) != len(lines):
        return "a header stands twice"
    found = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if not found:
        return "there is no authorization header of SigV4"
    stamp = headers.get("x-amz-date", "")
    if not re.fullmatch(r"\d{8}T\d{6}Z", stamp) or stamp[:8] != found["day"]:
        return "x-amz-date is not the day of the scope"
    when = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    if abs((datetime.datetime.now(datetime.timezone.utc) - when).total_seconds()) > 300:
        return "x-amz-date is more than five minutes away"
    for what, is_there, wanted in (
        ("access key", found["key"], access_key),
        ("region", found["region"], region),
        ("service", found["service"], service),
        ("session token", headers.get("x-amz-security-token"), session_token),
    ):
        if is_there != wanted:
            return f"the {what} is {is_there!r} in place of {wanted!r}"
    names = found["names"].split(";")
    missing = (MUST_BE_SIGNED | ({"x-amz-security-token"} if session_token else set())) - set(names)
    if missing:
        return f"not signed: {sorted(missing)}"
    request = AWSRequest(
        method=method,
        url=f"https://{headers['host']}{target}",
        data=body,
        # botocore adds host, date and token by itself.
        headers={name: headers[name] for name in names if name not in ("host", "x-amz-date", "x-amz-security-token")},
    )
    signer = SigV4Auth(Credentials(access_key, secret_key, session_token), service, region)
    request.context["timestamp"] = stamp
    if session_token:
        request.headers["X-Amz-Security-Token"] = session_token
    request.headers["X-Amz-Date"] = stamp
    canonical = signer.canonical_request(request)
    wanted = signer.signature(signer.string_to_sign(request, canonical), request)
    if wanted != found["signature"]:
        return f"the signature is not botocore's; its canonical request is\n{canonical}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--access-key", required=True)
    parser.add_argument("--secret-key", required=True)
    parser.add_argument("--session-token")
    parser.add_argument("--region", required=True)
    parser.add_argument("--service", default="bedrock")
    options = parser.parse_args()
    try:
        import botocore.auth  # noqa: F401
    except ImportError:
        print("not run: botocore is not there (tests/sdk/requirements-aws.txt)", file=sys.stderr)
        return 2
    head, _, body = sys.stdin.buffer.read().partition(b"\r\n\r\n")
    wrong = problem(
        head, body, options.access_key, options.secret_key, options.region, options.service, options.session_token
    )
    if wrong:
        print(wrong, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
