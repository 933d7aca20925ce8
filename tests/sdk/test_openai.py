"""The official SDK against the scripted provider, through the gateway."""

import asyncio
import io
import json

import openai
import pytest
from openai import OpenAI

from provider import AUDIO, WORDS

TEXT = "".join(WORDS)
HI = [{"role": "user", "content": "hi"}]


def test_the_snippet_of_the_documentation(base_url, token):
    client = OpenAI(api_key=token, base_url=base_url)
    stream = client.chat.completions.create(
        messages=[
            {"role": "system", "content": "You are an AI bot."},
            {"role": "user", "content": "Enter your prompt here"},
        ],
        model="main/m",
        temperature=0.7,
        max_tokens=256,
        top_p=0.8,
        frequency_penalty=0,
        presence_penalty=0,
        stop=["</s>"],
        stream=True,
        extra_headers={"X-TFY-METADATA": '{"tfy_log_request":"true"}'},
    )
    text = ""
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content is not None:
            text += chunk.choices[0].delta.content
    assert text == TEXT


def test_plain_call(client):
    answer = client.chat.completions.create(model="main/m", messages=HI)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 13


def test_usage_only_when_asked(client):
    chunks = list(client.chat.completions.create(model="main/m", messages=HI, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="main/m", messages=HI, stream=True, stream_options=options))
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [13]
    assert chunks[-1].choices == []


def test_stream_helper(client):
    with client.chat.completions.stream(model="main/m", messages=HI) as stream:
        assert stream.get_final_completion().choices[0].message.content == TEXT


def test_async_client(make_async_client):
    async def run():
        async with make_async_client() as client:
            plain = await client.chat.completions.create(model="main/m", messages=HI)
            assert plain.choices[0].message.content == TEXT
            stream = await client.chat.completions.create(model="main/m", messages=HI, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(pieces) == TEXT
            assert [model.id async for model in client.models.list()] == ["main/m"]

    asyncio.run(run())


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def test_tool_calls(client):
    answer = client.chat.completions.create(model="main/m", messages=HI, tools=TOOLS)
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "Genève"]


def test_tool_calls_in_a_stream(client):
    with client.chat.completions.stream(model="main/m", messages=HI, tools=TOOLS) as stream:
        message = stream.get_final_completion().choices[0].message
    assert [call.id for call in message.tool_calls] == ["call_0", "call_1"]
    assert [json.loads(call.function.arguments)["city"] for call in message.tool_calls] == ["Paris", "Genève"]


def test_completions(client):
    assert client.completions.create(model="main/m", prompt="x").choices[0].text == TEXT
    stream = client.completions.create(model="main/m", prompt="x", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == TEXT


def test_embeddings(client):
    answer = client.embeddings.create(model="main/m", input=["a", "b"])
    assert [item.embedding for item in answer.data] == [[1.0, 2.0, 3.0]] * 2
    answer = client.embeddings.create(model="main/m", input="a", encoding_format="float")
    assert answer.data[0].embedding == [1.0, 2.0, 3.0]


def test_models(client):
    assert [model.id for model in client.models.list()] == ["main/m"]
    model = client.models.retrieve("main/m")
    assert (model.id, model.object) == ("main/m", "model")
    for absent in ("other/m", "none/m"):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(absent)


def test_raw_response_headers(client):
    raw = client.chat.completions.with_raw_response.create(
        model="main/m", messages=HI, extra_headers={"x-request-id": "my-own-id-1"}
    )
    assert raw.headers["x-request-id"] == "my-own-id-1"
    assert raw.headers["x-upstream-request-id"] == "req_upstream"
    assert raw.headers["x-tfy-resolved-model"] == "main/m"
    assert raw.parse().choices[0].message.content == TEXT
    with client.chat.completions.with_streaming_response.create(model="main/m", messages=HI, stream=True) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-tfy-resolved-model"] == "main/m"
        assert "data: [DONE]" in list(raw.iter_lines())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_providers_errors_as_exceptions(client, status, kind, stream):
    messages = [{"role": "user", "content": f"status {status}"}]
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model="main/m", messages=messages, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.body["message"] == f"scripted {status}"
    assert caught.value.code == "scripted_code"
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert caught.value.request_id


def test_the_gateways_own_errors_as_exceptions(client, base_url, token):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="nonsense", messages=HI)
    with pytest.raises(openai.PermissionDeniedError) as forbidden:
        client.chat.completions.create(model="other/m", messages=HI)
    with pytest.raises(openai.PermissionDeniedError) as unknown:
        client.chat.completions.create(model="none/m", messages=HI)
    assert "ada@example.com" in forbidden.value.body["message"]
    assert str(forbidden.value).replace("other/m", "none/m") == str(unknown.value)
    with pytest.raises(openai.AuthenticationError) as wrong:
        OpenAI(base_url=base_url, api_key="wrong", max_retries=0).models.list()
    assert wrong.value.response.headers["www-authenticate"] == "Bearer"
    with pytest.raises(openai.BadRequestError) as metadata:
        client.chat.completions.create(model="main/m", messages=HI, extra_headers={"X-TFY-METADATA": '{"a":1}'})
    assert "X-TFY-METADATA" in metadata.value.body["message"]


@pytest.mark.parametrize("status", [401, 403])
def test_the_providers_refusal_of_our_key_is_not_the_callers_fault(client, status):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="main/m", messages=[{"role": "user", "content": f"status {status}"}])
    assert caught.value.status_code == 502
    assert "'main'" in caught.value.body["message"]


def test_a_stream_that_breaks_off_raises(client):
    stream = client.chat.completions.create(
        model="main/m", messages=[{"role": "user", "content": "break off"}], stream=True
    )
    text = ""
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text == TEXT
    assert "'main'" in caught.value.message


def test_two_hundred_calls_in_parallel(make_async_client):
    async def run():
        async with make_async_client() as client:

            async def plain(number):
                messages = [{"role": "user", "content": f"echo number {number}"}]
                answer = await client.chat.completions.create(model="main/m", messages=messages)
                return answer.choices[0].message.content == f"number {number}"

            async def streamed(_):
                stream = await client.chat.completions.create(model="main/m", messages=HI, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == TEXT

            calls = [plain(number) if number % 2 else streamed(number) for number in range(200)]
            return await asyncio.gather(*calls)

    assert asyncio.run(run()) == [True] * 200


def test_responses(client):
    answer = client.responses.create(model="main/m", input="hi")
    assert answer.output_text == TEXT
    assert answer.usage.output_tokens_details.reasoning_tokens == 1


def test_responses_stream(client):
    events = list(client.responses.create(model="main/m", input="hi", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    with client.responses.stream(model="main/m", input="hi") as stream:
        assert stream.get_final_response().output_text == TEXT


def test_audio(client, provider):
    speech = client.audio.speech.create(model="main/m", voice="alloy", input="hi")
    assert speech.content == AUDIO
    file = ("a.wav", io.BytesIO(b"RIFF\r\n--\x00\xff" * 5000), "audio/wav")
    answer = client.audio.transcriptions.create(model="main/m", file=file, language="en")
    body = provider.requests[-1]["body"]
    assert answer.text == f"{len(body)} bytes"
    assert b"up-model" in body and b"main/m" not in body and b"RIFF\r\n--\x00\xff" * 5000 in body
    file = ("a.wav", io.BytesIO(b"RIFF"), "audio/wav")
    assert client.audio.translations.create(model="main/m", file=file).text


def test_images(client, provider):
    assert client.images.generate(model="main/m", prompt="x").data[0].b64_json == "QUJD"
    images = [("a.png", b"\x89PNG\r\n\x1a\n" * 999, "image/png"), ("b.png", b"\x89PNG", "image/png")]
    answer = client.images.edit(model="main/m", image=images, prompt="main/m stays here")
    assert answer.data[0].b64_json == "QUJD"
    body = provider.requests[-1]["body"]
    assert b"up-model" in body and b"main/m stays here" in body and b"\x89PNG\r\n\x1a\n" * 999 in body


def test_moderations(client):
    assert client.moderations.create(model="main/m", input="x").results[0].flagged is False


def test_large_bodies(client, provider):
    text = "data:image/png;base64," + "QUJD+/" * 3_000_000
    answer = client.chat.completions.create(
        model="main/m", messages=[{"role": "user", "content": f"echo {text}"}], timeout=120
    )
    assert answer.choices[0].message.content == text


def test_nothing_of_the_caller_reaches_the_provider(client, provider, token):
    client.chat.completions.create(
        model="main/m", messages=HI, extra_headers={"X-TFY-METADATA": '{"a":"b"}', "cookie": "c=d"}
    )
    headers = {name.lower(): value for name, value in provider.requests[-1]["headers"].items()}
    assert not [name for name in headers if name.startswith(("x-stainless", "x-tfy", "cookie", "openai-"))], headers
    assert token not in json.dumps(headers)


def test_the_log_and_the_report(gateway, client, token):
    client.chat.completions.create(model="main/m", messages=[{"role": "user", "content": "PROMPT-CANARY"}])
    rows = gateway.usage(1)
    assert rows[0]["calls"] > 0 and rows[0]["inputTokens"] > 0
    log = gateway.log()
    for secret in ("PROMPT-CANARY", token, "sk-provider-SECRET", TEXT):
        assert secret not in log
