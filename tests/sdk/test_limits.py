"""Refusals by rate limits and budgets, as the official SDKs see them."""

import json

import httpx
import openai
import pytest
from openai import OpenAI

from conftest import PATIENCE_S, not_run

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def limited(make_gateway, provider):
    """Applies limits to a gateway of its own; gives its address and a token."""

    def make(kind, *rules):
        gateway = make_gateway()
        gateway.add_account("main", provider.base_url)
        gateway.admin("model", "add", "main/m", "--model-id", "up-model", "--input-price", "1", "--output-price", "1")
        token = gateway.add_user("ada@example.com", "main")
        file = gateway.folder / "limits.json"
        file.write_text(json.dumps({"type": kind, "name": "limits", "rules": rules}))
        gateway.admin("apply", "-f", str(file))
        return gateway, token

    return make


def client_of(gateway, token, **options):
    options = {"max_retries": 0, "timeout": PATIENCE_S, **options}
    return OpenAI(base_url=f"{gateway.url}/api/llm/api/inference/openai", api_key=token, **options)


def slow(limit=1):
    return {
        "id": "slow", "when": {}, "limit_to": limit, "unit": "requests_per_minute", "rate_limit_applies_per": ["user"],
    }  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_a_rate_limit_is_a_rate_limit_error(limited, stream):
    gateway, token = limited("gateway-rate-limiting-config", slow())
    client = client_of(gateway, token)
    served = client.chat.completions.with_raw_response.create(model="main/m", messages=HI)
    assert served.headers["x-ratelimit-limit-requests"] == "1"
    assert served.headers["x-ratelimit-remaining-requests"] == "0"
    assert served.headers["x-ratelimit-reset-requests"].startswith(("1m", "60s", "59s"))
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="main/m", messages=HI, stream=stream)
    error = caught.value
    assert (error.status_code, error.type, error.code) == (429, "RateLimitError", "429")
    assert "'slow' of user:ada@example.com" in error.body["message"]
    headers = error.response.headers
    assert 30 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"]


def test_the_sdk_waits_as_long_as_it_is_told(limited, monkeypatch):
    gateway, token = limited("gateway-rate-limiting-config", slow())
    slept = []
    monkeypatch.setattr("openai._base_client.time.sleep", slept.append)
    client = client_of(gateway, token, max_retries=1)
    client.chat.completions.create(model="main/m", messages=HI)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="main/m", messages=HI)
    # SDKs make their own guess of a few seconds when they are told more than a minute.
    assert len(slept) == 1 and 30 <= slept[0] <= 60


def test_tokens_by_the_day(limited):
    rule = {"id": "daily", "when": {}, "limit_to": 100_000, "unit": "tokens_per_day"}
    gateway, token = limited("gateway-rate-limiting-config", rule)
    client = client_of(gateway, token)
    raw = client.chat.completions.with_raw_response.create(model="main/m", messages=HI, max_tokens=10)
    assert raw.headers["x-ratelimit-limit-tokens"] == "100000"
    assert 0 < int(raw.headers["x-ratelimit-remaining-tokens"]) < 100_000
    assert "x-ratelimit-limit-requests" not in raw.headers


def test_a_budget_is_a_rate_limit_error_that_says_so(limited):
    rule = {"id": "pocket-money", "when": {}, "limit_to": 0, "unit": "cost_per_day"}
    gateway, token = limited("gateway-budget-config", rule)
    with pytest.raises(openai.RateLimitError) as caught:
        client_of(gateway, token).chat.completions.create(model="main/m", messages=HI)
    assert caught.value.type == "BudgetExceededError"
    assert "'pocket-money'" in caught.value.body["message"]
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 86_400


def test_the_messages_dialect_has_its_own_shape(limited):
    gateway, token = limited("gateway-rate-limiting-config", slow(limit=0))
    body = {"model": "main/m", "max_tokens": 5, "messages": HI}
    answer = httpx.post(f"{gateway.url}/v1/messages", json=body, headers={"x-api-key": token})
    assert answer.status_code == 429
    shape = answer.json()
    assert shape["type"] == "error"
    assert shape["error"]["type"] == "rate_limit_error" and "'slow'" in shape["error"]["message"]
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_the_other_sdk(limited):
    try:
        import anthropic
    except ImportError:
        not_run("limits with the SDK of the Messages dialect (anthropic is not installed)")
    gateway, token = limited("gateway-rate-limiting-config", slow(limit=0))
    client = anthropic.Anthropic(api_key=token, base_url=gateway.url, max_retries=0)
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(model="main/m", max_tokens=5, messages=HI)
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    assert int(caught.value.response.headers["retry-after"]) >= 1
