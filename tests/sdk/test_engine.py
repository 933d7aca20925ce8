"""The official SDK against a real model: llama.cpp with SmolLM2."""

import re
import urllib.request

import pytest
from openai import OpenAI

HI = [{"role": "user", "content": "Name three colours."}]
LIMITS = {"max_tokens": 24, "temperature": 0}


@pytest.fixture
def served(engine, make_gateway):
    """A gateway with the model `local/smollm2`, and a client of it."""
    gateway = make_gateway()
    gateway.add_account("local", f"{engine}/v1")
    gateway.admin("model", "add", "local/smollm2", "--model-id", "smollm2", "--type", "chat,embedding")
    token = gateway.add_user("ada@example.com", "local")
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=0, timeout=120) as client:
        yield gateway, client


def row(gateway, calls):
    rows = gateway.usage(calls)
    assert len(rows) == 1 and rows[0]["calls"] == calls and rows[0]["errors"] == 0, rows
    assert rows[0]["estimatedCalls"] == 0, rows
    return rows[0]


def generated(engine):
    """Tokens generated since the engine's start, by its own count."""
    text = urllib.request.urlopen(f"{engine}/metrics", timeout=30).read().decode()
    return int(float(re.search(r"^llamacpp:tokens_predicted_total (\S+)", text, re.M).group(1)))


def test_usage_equals_the_engines(served):
    gateway, client = served
    usages = [client.chat.completions.create(model="local/smollm2", messages=HI, **LIMITS).usage]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model="local/smollm2", messages=HI, **options, **LIMITS))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    usages.append(chunks[-1].usage)
    usages.append(client.completions.create(model="local/smollm2", prompt="One, two,", **LIMITS).usage)
    chunks = list(client.completions.create(model="local/smollm2", prompt="One, two,", **options, **LIMITS))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    usages.append(chunks[-1].usage)
    embedding = client.embeddings.create(model="local/smollm2", input="hello world")
    assert len(embedding.data[0].embedding) == 576
    total = row(gateway, 5)
    assert total["inputTokens"] == sum(usage.prompt_tokens for usage in usages) + embedding.usage.prompt_tokens
    assert total["outputTokens"] == sum(usage.completion_tokens for usage in usages)


def test_usage_is_known_when_the_caller_does_not_ask(served, engine):
    gateway, client = served
    before = generated(engine)
    for _ in range(2):
        chunks = list(client.chat.completions.create(model="local/smollm2", messages=HI, stream=True, **LIMITS))
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    total = row(gateway, 2)
    assert total["outputTokens"] == generated(engine) - before
    assert total["inputTokens"] > 0


def test_the_same_answer_with_and_without_the_gateway(served, engine):
    _, client = served
    direct = OpenAI(base_url=f"{engine}/v1", api_key="none", max_retries=0, timeout=120)
    ours, theirs = (
        "".join(
            chunk.choices[0].delta.content or ""
            for chunk in each.chat.completions.create(
                model=model, messages=HI, stream=True, seed=7, extra_body={"cache_prompt": False}, **LIMITS
            )
        )
        for each, model in ((client, "local/smollm2"), (direct, "smollm2"))
    )
    assert ours == theirs != ""


def test_responses(served):
    gateway, client = served
    events = list(client.responses.create(model="local/smollm2", input="Say hi.", stream=True, max_output_tokens=16))
    assert events[-1].type in ("response.completed", "response.incomplete")
    total = row(gateway, 1)
    usage = events[-1].response.usage
    assert (total["inputTokens"], total["outputTokens"]) == (usage.input_tokens, usage.output_tokens)


def test_a_caller_that_leaves_stops_the_engine(served, engine):
    gateway, client = served
    stream = client.chat.completions.create(
        model="local/smollm2", messages=[{"role": "user", "content": "Count to a thousand."}], stream=True, max_tokens=2000
    )
    for number, _ in enumerate(stream):
        if number == 5:
            break
    stream.close()
    gateway.usage(1)
    # The slot is free again: the next call is answered without waiting for the first to end.
    before = generated(engine)
    client.chat.completions.create(model="local/smollm2", messages=HI, max_tokens=4)
    assert generated(engine) - before < 500
