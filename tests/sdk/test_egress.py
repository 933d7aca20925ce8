"""`[egress] allow` binds configured providers too. That nothing else is dialled at all is shown by tests/egress/run.py,
which runs this whole suite where every packet that leaves is seen."""

import openai
import pytest
from openai import OpenAI


def client_of(make_gateway, provider, allow):
    gateway = make_gateway(config=f"egress.allow = {allow}\n")
    gateway.add_account("main", provider.base_url)
    gateway.admin("model", "add", "main/m", "--model-id", "up-model")
    token = gateway.add_user("ada@example.com", "main")
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=0)


def call(client):
    return client.chat.completions.create(model="main/m", messages=[{"role": "user", "content": "hello"}])


@pytest.mark.parametrize("allow", ["[]", '["127.0.0.2"]', '["*.example.com", "10.0.0.0/8"]'])
def test_a_configured_provider_that_is_not_allowed_is_not_dialled(make_gateway, provider, allow):
    client = client_of(make_gateway, provider, allow)
    before = len(provider.requests)
    with pytest.raises(openai.APIStatusError) as refused:
        call(client)
    assert refused.value.status_code >= 500
    assert len(provider.requests) == before


def test_one_that_is_allowed_is(make_gateway, provider):
    client = client_of(make_gateway, provider, '["127.0.0.0/8"]')
    before = len(provider.requests)
    assert call(client).choices
    assert len(provider.requests) == before + 1
