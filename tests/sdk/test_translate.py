"""Every front in front of every protocol, through official SDKs: OpenAI's chat and Responses and Anthropic's Messages
as callers, scripted providers that speak their own protocols behind."""

import base64
import json
import os
import pathlib

import anthropic
import openai
import pytest

import aws
from conftest import PATIENCE_S, eventually
from protocols import (
    CACHED_TOKENS,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    WORDS,
    AnthropicProvider,
    BedrockProvider,
    GeminiProvider,
    OpenAiProvider,
)

TEXT = "".join(WORDS)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
IMAGE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "properties": {}}
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
# account: whether the protocol brings thoughts with a signature.
ACCOUNTS = {"claude": True, "bed": True, "gem": False, "compat": False, "azure": False}
BROKEN = ["hang-head", "hang-first", "hang-middle", "no-end", "error-first", "error-middle"]
SECRETS = [AnthropicProvider.key, GeminiProvider.key, OpenAiProvider.key, aws.SECRET_KEY, "azure-SECRET-3", "internal.amazon"]


@pytest.fixture(scope="module")
def providers():
    started = {
        "claude": AnthropicProvider(),
        "gem": GeminiProvider(),
        "bed": BedrockProvider(aws.check),
        "compat": OpenAiProvider(),
        "azure": OpenAiProvider(lambda headers: headers.get("api-key") == "azure-SECRET-3"),
    }
    yield started
    for provider in started.values():
        provider.close()


def manifests(providers):
    def account(kind, name, fields, model_kind, model, auth, **model_fields):
        return {
            "type": f"provider-account/{kind}",
            "name": name,
            **fields,
            **({"auth_data": auth} if auth else {}),
            "integrations": [
                {
                    "type": f"integration/model/{model_kind}",
                    "name": "m",
                    "model_id": model,
                    "model_types": ["chat"],
                    **model_fields,
                },
                {
                    "type": f"integration/model/{model_kind}",
                    "name": "e",
                    "model_id": "amazon.titan-embed-text-v2:0" if kind == "aws-bedrock" else "an-embedding-model",
                    "model_types": ["embedding"],
                },
                *(
                    [{"type": "integration/model/bedrock", "name": "cohere", "model_id": "cohere.embed-english-v3", "model_types": ["embedding"]}]
                    if kind == "aws-bedrock"
                    else []
                ),
            ],
        }

    keys = {"type": "access-key-based", "access_key_id": aws.ACCESS_KEY, "secret_access_key": aws.SECRET_KEY}
    return [
        account("anthropic", "claude", {"base_url": f"{providers['claude'].url}/v1"}, "anthropic", "claude-sonnet-4-5", {"type": "api-key", "api_key": AnthropicProvider.key}),
        account("google-gemini", "gem", {"base_url": f"{providers['gem'].url}/v1beta"}, "gemini", "gemini-2.5-flash", {"type": "api-key", "apiKey": GeminiProvider.key}),
        account("aws-bedrock", "bed", {"region": aws.REGION, "base_url": providers["bed"].url}, "bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0", keys),
        account("groq", "compat", {"base_url": f"{providers['compat'].url}/v1"}, "groq", "llama-3.3-70b", {"type": "api-key", "api_key": OpenAiProvider.key}),
        account("azure-openai", "azure", {"azure_endpoint": providers["azure"].url}, "azure-openai", "my-deployment", {"type": "api-key", "api_key": "azure-SECRET-3"}, api_version="2024-10-21"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def gateway(request, providers, tmp_path_factory):
    from conftest import Gateway

    gateway = Gateway()
    path = tmp_path_factory.mktemp("manifests") / "accounts.json"
    path.write_text(json.dumps(manifests(providers)))
    gateway.admin("apply", "-f", str(path))
    yield gateway
    gateway.close()


@pytest.fixture(scope="module")
def token(gateway):
    return gateway.add_user("ada@example.com", *ACCOUNTS)


@pytest.fixture
def chat(gateway, token):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=0, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def messages(gateway, token):
    with anthropic.Anthropic(base_url=gateway.url, api_key=token, max_retries=0, timeout=PATIENCE_S) as client:
        yield client


each = pytest.mark.parametrize("account", ACCOUNTS)


def ask(text, *more):
    return [{"role": "user", "content": text}, *more]


def no_secret(text):
    for secret in SECRETS:
        assert secret not in text


# OpenAI's chat.


@each
def test_chat(chat, account):
    answer = chat.chat.completions.create(model=f"{account}/m", messages=[{"role": "system", "content": "Be brief."}, *ask("hello")], max_tokens=50)
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason, answer.object) == (TEXT, "stop", "chat.completion")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (INPUT_TOKENS + CACHED_TOKENS, OUTPUT_TOKENS, INPUT_TOKENS + CACHED_TOKENS + OUTPUT_TOKENS)
    assert usage.prompt_tokens_details.cached_tokens == CACHED_TOKENS
    assert answer.id and answer.model and answer.created


@each
@pytest.mark.parametrize("include_usage", [True, False])
def test_chat_stream(chat, account, include_usage):
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    with chat.chat.completions.create(model=f"{account}/m", messages=ask("hello"), max_tokens=50, stream=True, **options) as stream:
        chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == TEXT
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == include_usage
    if include_usage:
        assert (usages[0].prompt_tokens, usages[0].completion_tokens) == (INPUT_TOKENS + CACHED_TOKENS, OUTPUT_TOKENS)


def chat_tool(name, parameters):
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": parameters}}


@each
@pytest.mark.parametrize("stream", [False, True])
def test_chat_tools_in_turns(chat, account, stream):
    tools = [chat_tool("get_weather", WEATHER), chat_tool("get_time", NOTHING)]
    history = ask("weather please")

    def turn():
        if not stream:
            return chat.chat.completions.create(model=f"{account}/m", messages=history, tools=tools).choices[0]
        with chat.chat.completions.stream(model=f"{account}/m", messages=history, tools=tools) as events:
            events.until_done()
            return events.get_final_completion().choices[0]

    choice = turn()
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert len({call.id for call in calls}) == 2 and all(call.id for call in calls)
    history.append(choice.message.model_dump(exclude_none=True, exclude={"parsed": True}))
    history.extend({"role": "tool", "tool_call_id": call.id, "content": f"sun in {json.loads(call.function.arguments)['city']}"} for call in calls)
    choice = turn()
    assert (choice.message.content, choice.finish_reason) == ("sun in Paris; sun in Rome", "stop")
    history = ask("now")
    choice = turn()
    assert [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls] == [("get_time", {})]


@each
def test_chat_image(chat, account, providers):
    parts = [{"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": IMAGE}}]
    assert chat.chat.completions.create(model=f"{account}/m", messages=ask(parts)).choices[0].message.content == TEXT
    assert base64.b64encode(PNG) in providers[account].received[-1]["raw"]


@each
def test_chat_thinking(chat, account):
    options = {"reasoning_effort": "low"}
    answer = chat.chat.completions.create(model=f"{account}/m", messages=ask("think"), max_tokens=4000, **options)
    assert answer.choices[0].message.content == "42"
    assert answer.choices[0].message.reasoning_content == "Let me think."
    with chat.chat.completions.create(model=f"{account}/m", messages=ask("think"), max_tokens=4000, stream=True, **options) as stream:
        deltas = [choice.delta for chunk in stream for choice in chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Let me think."
    assert "".join(delta.content or "" for delta in deltas) == "42"


@pytest.mark.parametrize("account", ["claude", "bed"])
def test_chat_thinking_comes_back_in_a_tool_loop(chat, account):
    tools = [chat_tool("get_weather", WEATHER)]
    history = ask("thinktool")
    options = {"reasoning_effort": "low", "max_tokens": 4000, "tools": tools, "model": f"{account}/m"}
    message = chat.chat.completions.create(messages=history, **options).choices[0].message
    history.append(message.model_dump(exclude_none=True))
    history.append({"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "snow"})
    assert chat.chat.completions.create(messages=history, **options).choices[0].message.content == "snow"


@each
def test_chat_json_schema(chat, account):
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    answer = chat.chat.completions.create(model=f"{account}/m", messages=ask("json"), response_format=form)
    assert json.loads(answer.choices[0].message.content) == {"answer": 42}


@each
def test_chat_finish_reasons(chat, account):
    for word, reason in (("long", "length"), ("refuse", "content_filter")):
        assert chat.chat.completions.create(model=f"{account}/m", messages=ask(word)).choices[0].finish_reason == reason


@each
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status,error", [(400, openai.BadRequestError), (404, openai.NotFoundError), (429, openai.RateLimitError), (500, openai.InternalServerError)])
def test_chat_errors(chat, account, status, error, stream):
    with pytest.raises(error) as caught:
        chat.chat.completions.create(model=f"{account}/m", messages=ask(f"status {status}"), stream=stream)
    assert f"scripted {status}" in str(caught.value)
    assert status != 429 or int(caught.value.response.headers["retry-after"]) in (7, 8) or account == "bed"
    assert caught.value.response.headers["x-request-id"]
    no_secret(caught.value.response.text + str(caught.value.response.headers))


@each
@pytest.mark.parametrize("word", BROKEN)
def test_chat_streams_that_break(chat, account, word):
    with pytest.raises((openai.APIError)) as caught:
        with chat.chat.completions.create(model=f"{account}/m", messages=ask(word), stream=True) as stream:
            chunks = list(stream)
            raise AssertionError(f"ended well: {chunks}")
    if word in ("hang-head", "hang-first"):
        assert caught.value.status_code == 502
    if word == "error-first" and account != "bed":
        assert caught.value.status_code == 503
    no_secret(str(caught.value))


@each
@pytest.mark.parametrize("word", ["hang-head", "hang-first", "hang-middle"])
def test_chat_answers_that_break(chat, account, word):
    with pytest.raises(openai.APIError):
        chat.chat.completions.create(model=f"{account}/m", messages=ask(word))


@pytest.mark.parametrize("account", ["claude", "bed", "gem"])
def test_chat_unsupported_fields_are_named(chat, account):
    with pytest.raises(openai.BadRequestError) as caught:
        chat.chat.completions.create(model=f"{account}/m", messages=ask("hello"), logit_bias={"5": 1})
    assert caught.value.param == "logit_bias" and "logit_bias" in str(caught.value)


def test_dropped_fields_are_listed(gateway, providers, chat, tmp_path):
    manifest = {**manifests(providers)[0], "name": "droppy", "drop_unsupported": True}
    path = tmp_path / "droppy.json"
    path.write_text(json.dumps(manifest))
    gateway.admin("apply", "-f", str(path))
    gateway.admin("grant", "user:ada@example.com", "provider-account-access", "droppy")
    raw = chat.chat.completions.with_raw_response.create(model="droppy/m", messages=ask("hello"), logit_bias={"5": 1}, seed=7)
    assert raw.headers["x-gateway-dropped-fields"] == "logit_bias, seed" or raw.headers["x-gateway-dropped-fields"] == "seed, logit_bias"
    assert raw.parse().choices[0].message.content == TEXT


def test_provider_options_reach_the_provider(chat, providers):
    chat.chat.completions.create(model="gem/m", messages=ask("hello"), extra_body={"provider_options": {"safetySettings": [{"category": "C", "threshold": "T"}]}})
    assert providers["gem"].received[-1]["body"]["safetySettings"] == [{"category": "C", "threshold": "T"}]


# Embeddings.


@pytest.mark.parametrize("model", ["gem/e", "bed/e", "bed/cohere"])
@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(chat, model, form):
    one = chat.embeddings.create(model=model, input="hello", encoding_format=form)
    two = chat.embeddings.create(model=model, input=["a", "bb"], encoding_format=form)
    assert len(one.data) == 1 and len(two.data) == 2
    assert [row.index for row in two.data] == [0, 1]
    if form == "float":
        assert two.data[1].embedding[1:] == [2.0, 3.0]
    else:
        assert base64.b64decode(two.data[1].embedding)[4:] == bytes.fromhex("0000004000004040")


def test_no_embeddings_of_anthropic(chat):
    with pytest.raises(openai.BadRequestError, match="not supported by anthropic"):
        chat.embeddings.create(model="claude/e", input="hello")


# Anthropic's Messages.


@each
def test_messages(messages, account):
    answer = messages.messages.create(model=f"{account}/m", max_tokens=50, system="Be brief.", messages=ask("hello"))
    assert ([block.text for block in answer.content], answer.stop_reason) == ([TEXT], "end_turn")
    usage = answer.usage
    assert (usage.input_tokens + (usage.cache_read_input_tokens or 0), usage.output_tokens) == (INPUT_TOKENS + CACHED_TOKENS, OUTPUT_TOKENS)


@each
def test_messages_stream(messages, account):
    with messages.messages.stream(model=f"{account}/m", max_tokens=50, messages=ask("hello")) as stream:
        assert "".join(stream.text_stream) == TEXT
        answer = stream.get_final_message()
    assert (answer.content[0].text, answer.stop_reason, answer.usage.output_tokens) == (TEXT, "end_turn", OUTPUT_TOKENS)


@each
@pytest.mark.parametrize("stream", [False, True])
def test_messages_tools_in_turns(messages, account, stream):
    tools = [{"name": "get_weather", "description": "d", "input_schema": WEATHER}, {"name": "get_time", "input_schema": NOTHING}]
    history = ask("weather please")

    def turn():
        options = {"model": f"{account}/m", "max_tokens": 100, "messages": history, "tools": tools}
        if not stream:
            return messages.messages.create(**options)
        with messages.messages.stream(**options) as events:
            return events.get_final_message()

    answer = turn()
    assert answer.stop_reason == "tool_use"
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    history.append({"role": "assistant", "content": [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in answer.content]})
    history.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": f"sun in {call.input['city']}"} for call in calls]})
    answer = turn()
    assert ("".join(block.text for block in answer.content), answer.stop_reason) == ("sun in Paris; sun in Rome", "end_turn")
    history = ask("now")
    answer = turn()
    assert [(block.name, block.input) for block in answer.content if block.type == "tool_use"] == [("get_time", {})]


@each
def test_messages_thinking(messages, account):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with messages.messages.stream(model=f"{account}/m", max_tokens=4000, messages=ask("think"), thinking=thinking) as stream:
        answer = stream.get_final_message()
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert (answer.content[0].thinking, answer.content[1].text) == ("Let me think.", "42")


@each
def test_messages_image(messages, account):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}}
    answer = messages.messages.create(model=f"{account}/m", max_tokens=50, messages=ask([image, {"type": "text", "text": "hello"}]))
    assert answer.content[0].text == TEXT


@each
@pytest.mark.parametrize("status,error", [(400, anthropic.BadRequestError), (404, anthropic.NotFoundError), (429, anthropic.RateLimitError), (500, anthropic.InternalServerError)])
def test_messages_errors(messages, account, status, error):
    with pytest.raises(error) as caught:
        messages.messages.create(model=f"{account}/m", max_tokens=50, messages=ask(f"status {status}"))
    assert caught.value.body["type"] == "error" and f"scripted {status}" in caught.value.body["error"]["message"]
    no_secret(caught.value.response.text)


@each
@pytest.mark.parametrize("word", BROKEN)
def test_messages_streams_that_break(messages, account, word):
    with pytest.raises(anthropic.APIError):
        with messages.messages.stream(model=f"{account}/m", max_tokens=50, messages=ask(word)) as stream:
            stream.get_final_message()
            raise AssertionError("ended well")


def test_messages_pass_untouched_to_anthropic(messages, providers):
    """Unknown fields, versions and betas are between the caller and Anthropic."""
    raw = messages.messages.with_raw_response.create(
        model="claude/m", max_tokens=50, messages=ask("hello"), extra_headers={"anthropic-version": "2026-10-21", "anthropic-beta": "a-1,b-2"}
    )
    received = providers["claude"].received[-1]
    assert (received["headers"]["anthropic-version"], received["headers"]["anthropic-beta"]) == ("2026-10-21", "a-1,b-2")
    assert list(received["body"])[:1] == ["max_tokens"] or "model" in received["body"]
    assert received["body"]["model"] == "claude-sonnet-4-5"
    assert raw.headers["request-id"] == "req_anthropic_1"


def test_count_tokens(messages):
    assert messages.messages.count_tokens(model="claude/m", messages=ask("hello")).input_tokens == 14
    assert messages.messages.count_tokens(model="gem/m", messages=ask("hello there")).input_tokens > 0


def test_anthropic_bearer_and_refusals(gateway, token):
    client = anthropic.Anthropic(base_url=gateway.url, auth_token=token, max_retries=0)
    assert client.messages.create(model="gem/m", max_tokens=5, messages=ask("hello")).content
    with pytest.raises(anthropic.AuthenticationError) as caught:
        anthropic.Anthropic(base_url=gateway.url, api_key="tfy_pat_nobody", max_retries=0).messages.create(model="gem/m", max_tokens=5, messages=ask("hello"))
    assert caught.value.body["error"]["type"] == "authentication_error"
    with pytest.raises(anthropic.PermissionDeniedError):
        client.messages.create(model="absent/m", max_tokens=5, messages=ask("hello"))


@pytest.mark.parametrize("prefix", ["", "/api/llm", "/api/llm/api/inference/openai"])
def test_messages_under_each_prefix(gateway, token, prefix):
    client = anthropic.Anthropic(base_url=f"{gateway.url}{prefix}", api_key=token, max_retries=0)
    assert client.messages.create(model="gem/m", max_tokens=5, messages=ask("hello")).content[0].text == TEXT


# OpenAI's Responses.

RESPONDING = [name for name in ACCOUNTS if name != "azure"]
each_responding = pytest.mark.parametrize("account", RESPONDING)


@each_responding
def test_responses(chat, account):
    answer = chat.responses.create(model=f"{account}/m", instructions="Be brief.", input="hello", max_output_tokens=50)
    assert (answer.output_text, answer.status, answer.error) == (TEXT, "completed", None)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (INPUT_TOKENS + CACHED_TOKENS, OUTPUT_TOKENS)


@each_responding
def test_responses_stream(chat, account):
    with chat.responses.stream(model=f"{account}/m", input="hello", max_output_tokens=50) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    assert answer.output_text == TEXT
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers)) and events[-1].type == "response.completed"


@each_responding
@pytest.mark.parametrize("stream", [False, True])
def test_responses_tools_in_turns(chat, account, stream):
    tools = [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}]
    items = [{"role": "user", "content": "weather please"}]

    def turn():
        if not stream:
            return chat.responses.create(model=f"{account}/m", input=items, tools=tools, store=False)
        with chat.responses.stream(model=f"{account}/m", input=items, tools=tools, store=False) as events:
            return events.get_final_response()

    answer = turn()
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    items += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": f"sun in {json.loads(call.arguments)['city']}"} for call in calls]
    assert turn().output_text == "sun in Paris; sun in Rome"


@each_responding
@pytest.mark.parametrize("word", BROKEN)
def test_responses_streams_that_break(chat, account, word):
    try:
        with chat.responses.create(model=f"{account}/m", input=word, stream=True) as stream:
            events = list(stream)
    except openai.APIError:
        return
    assert events[-1].type in ("response.failed", "error"), events[-1]


# What is accounted for.


def test_every_translated_call_is_accounted_for(gateway, chat, messages, token):
    def tokens():
        rows = json.loads(gateway.admin("--output", "json", "usage", "report", "--by", "account"))
        rows = rows if isinstance(rows, list) else rows["data"]
        return {row["account"]: (row["calls"], row["input_tokens"], row["output_tokens"]) for row in rows}

    before = tokens()
    chat.chat.completions.create(model="gem/m", messages=ask("hello"))
    list(chat.chat.completions.create(model="gem/m", messages=ask("hello"), stream=True))
    messages.messages.create(model="gem/m", max_tokens=5, messages=ask("hello"))
    was = before.get("gem", (0, 0, 0))
    now = eventually("three more calls", lambda: tokens().get("gem") if tokens().get("gem", (0,))[0] >= was[0] + 3 else None)
    assert now[1] - was[1] == 3 * (INPUT_TOKENS + CACHED_TOKENS) and now[2] - was[2] == 3 * OUTPUT_TOKENS


def test_nothing_secret_in_the_log(gateway):
    no_secret(gateway.log())
    assert "get_weather" not in gateway.log()
