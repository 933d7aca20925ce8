"""TLS towards callers and towards providers."""

import shutil
import signal
import ssl
import socket
import subprocess
import threading
from urllib.parse import urlparse

import httpx
import pytest
from openai import InternalServerError, OpenAI

from conftest import PROVIDER_KEY, eventually, not_run
from provider import WORDS, ScriptedProvider

HI = [{"role": "user", "content": "hi"}]


def certificate(folder, name):
    """A self-signed certificate for 127.0.0.1."""
    if shutil.which("openssl") is None:
        not_run("TLS tests (openssl is not there)")
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-addext", "basicConstraints=critical,CA:FALSE"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def shown_certificate(url):
    parsed = urlparse(url)
    context = ssl._create_unverified_context()
    with socket.create_connection((parsed.hostname, parsed.port), timeout=10) as plain:
        with context.wrap_socket(plain) as tls:
            return tls.getpeercert(binary_form=True)


def test_callers_over_tls_and_a_new_certificate_on_sighup(make_gateway, provider, tmp_path):
    cert, key = certificate(tmp_path, "first")
    gateway = make_gateway(config=f'server.tls_cert_file = "{cert}"\nserver.tls_key_file = "{key}"\n')
    assert gateway.url.startswith("https://")
    gateway.add_account("main", provider.base_url)
    gateway.admin("model", "add", "main/m", "--model-id", "up-model")
    token = gateway.add_user("ada@example.com", "main")
    http = httpx.Client(verify=ssl.create_default_context(cafile=cert))
    client = OpenAI(base_url=f"{gateway.url}/v1", api_key=token, http_client=http, max_retries=0)
    text = "".join(
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(model="main/m", messages=HI, stream=True)
    )
    assert text == "".join(WORDS)
    messages = [{"role": "user", "content": "echo " + "x" * 5_000_000}]
    assert len(client.chat.completions.create(model="main/m", messages=messages).choices[0].message.content) == 5_000_000
    # Plain HTTP on the TLS port is not answered as if it were fine.
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        httpx.get(gateway.url.replace("https", "http") + "/healthz").raise_for_status()
    # A broken file keeps the old certificate, a good one replaces it; the open connection goes on.
    before = shown_certificate(gateway.url)
    good = cert.read_text()
    cert.write_text("nonsense")
    gateway.process.send_signal(signal.SIGHUP)
    eventually("a word about the broken file", lambda: str(cert) in gateway.log())
    assert shown_certificate(gateway.url) == before
    assert good
    new_cert, new_key = certificate(tmp_path, "second")
    shutil.copy(new_cert, cert)
    shutil.copy(new_key, key)
    gateway.process.send_signal(signal.SIGHUP)
    eventually("the new certificate", lambda: shown_certificate(gateway.url) != before)
    assert client.models.retrieve("main/m").id == "main/m"


def test_a_provider_over_tls_with_its_own_authority(make_gateway, tmp_path):
    cert, key = certificate(tmp_path, "provider")
    provider = ScriptedProvider(PROVIDER_KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    provider.server.socket = context.wrap_socket(provider.server.socket, server_side=True)
    url = provider.base_url.replace("http://", "https://")
    gateway = make_gateway()
    gateway.add_account("trusted", url, "--ca-file", str(cert))
    gateway.add_account("untrusted", url)
    for account in ("trusted", "untrusted"):
        gateway.admin("model", "add", f"{account}/m", "--model-id", "up-model")
    token = gateway.add_user("ada@example.com", "trusted", "untrusted")
    client = OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=0)
    answer = client.chat.completions.create(model="trusted/m", messages=HI)
    assert answer.choices[0].message.content == "".join(WORDS)
    stream = client.chat.completions.create(model="trusted/m", messages=HI, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "".join(WORDS)
    with pytest.raises(InternalServerError) as caught:
        client.chat.completions.create(model="untrusted/m", messages=HI)
    assert caught.value.status_code == 502 and "'untrusted'" in caught.value.body["message"]
    seen = len(provider.requests)
    assert seen == 2, "no request over a connection that is not trusted"
    threading.Thread(target=provider.close, daemon=True).start()
