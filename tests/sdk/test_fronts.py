"""What the translations write, read by the official SDKs of the dialects: the files of tests/golden/fronts/, which the
unit tests of src/translate/front/ compare byte by byte, served as they are."""

import http.server
import pathlib
import threading

import pytest
from openai import OpenAI

from conftest import not_run

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden/fronts"
HI = [{"role": "user", "content": "hi"}]
FAILED = {"error_at_once", "error_midway", "arguments_of_no_call"}
CALLS = {
    "thinking_and_tools": [("call_a", {"city": "Oslo"}), ("call_b", {})],
    "parallel_tools": [("call_a", {"city": "Oslo"}), ("call_b", {"city": "Rome"}), ("call_c", {})],
    "tools_that_end_at_the_end": [("call_a", {}), ("call_b", {})],
}
TEXTS = {
    "text": 'Héllo wörld\n\U0001f30d "q"\u2028',
    "thinking_and_tools": "I look.",
    "length": "It goes on",
    "stop_sequence": "One",
    "logprobs": "AA",
    "thoughts_without_proof": "So.",
}


class Replay(http.server.BaseHTTPRequestHandler):
    """Answers every POST with the golden file that the path begins with, such as `/messages/text.sse/v1/messages`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        dialect, name = self.path.split("/")[1:3]
        body = (GOLDEN / dialect / name).read_bytes()
        kind = "text/event-stream" if name.endswith(".sse") else "application/json"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def replay():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def names(dialect, kind):
    return sorted(path.stem for path in (GOLDEN / dialect).glob(f"*.{kind}"))


def openai_client(replay, name):
    return OpenAI(api_key="k", base_url=f"{replay}/responses/{name}/v1", max_retries=0)


def anthropic_client(replay, name):
    try:
        import anthropic
    except ImportError:
        not_run("the Messages dialect with its SDK (anthropic is not installed)")
    return anthropic.Anthropic(api_key="k", base_url=f"{replay}/messages/{name}", max_retries=0)


def strictly(made):
    """Validates an object that the SDK made without validation; what it holds has to fit its types."""
    type(made).model_validate(made.model_dump(warnings="error"))
    return made


@pytest.mark.parametrize("name", names("messages", "json"))
def test_whole_messages(replay, name):
    client = anthropic_client(replay, f"{name}.json")
    message = strictly(client.messages.create(model="m", max_tokens=9, messages=HI))
    assert message.role == "assistant" and message.usage.input_tokens in (0, 10)
    if name == "everything":
        assert [block.type for block in message.content] == [
            "thinking",
            "redacted_thinking",
            "thinking",
            "thinking",
            "text",
            "tool_use",
            "redacted_thinking",
            "tool_use",
            "tool_use",
            "tool_use",
        ]
        assert message.content[5].input == {"n": 1.0, "big": 12345678901234567890123}
    if name == "refusal":
        assert message.stop_reason == "refusal" and message.stop_details.type == "refusal"


@pytest.mark.parametrize("name", names("messages", "sse"))
def test_streamed_messages(replay, name):
    client = anthropic_client(replay, f"{name}.sse")
    import anthropic

    with client.messages.stream(model="m", max_tokens=9, messages=HI) as stream:
        if name in FAILED:
            with pytest.raises(anthropic.APIStatusError) as caught:
                stream.get_final_message()
            assert caught.value.body["error"]["type"] in ("overloaded_error", "api_error")
            return
        message = strictly(stream.get_final_message())
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [(block.id, block.input) for block in message.content if block.type == "tool_use"]
    assert text == TEXTS.get(name, "Well, I can't do that." if name == "refusal" else "")
    assert calls == CALLS.get(name, [])
    reasons = {
        "refusal": "refusal",
        "filtered": "refusal",
        "length": "max_tokens",
        "stop_sequence": "stop_sequence",
        **dict.fromkeys(CALLS, "tool_use"),
    }
    assert message.stop_reason == reasons.get(name, "end_turn")
    if name == "thinking_and_tools":
        assert (message.content[0].thinking, message.content[0].signature) == ("Let me see.", "c2lnbmF0dXJl")
        assert message.content[1].data == "b3BhcXVl"
        usage = message.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (10, 20, 9)
        assert usage.cache_creation_input_tokens == 7 and usage.output_tokens_details.thinking_tokens == 5


@pytest.mark.parametrize("name", names("responses", "json"))
def test_whole_responses(replay, name):
    response = strictly(openai_client(replay, f"{name}.json").responses.create(model="m", input="hi"))
    assert response.status == ("incomplete" if name == "length" else "completed")
    if name == "everything":
        assert response.output_text == "I look."
        assert [item.call_id for item in response.output if item.type == "function_call"] == [
            "call_a",
            "call_b",
            "call_c",
            "call_d",
        ]
        assert (response.usage.input_tokens, response.usage.total_tokens) == (37, 46)


@pytest.mark.parametrize("name", names("responses", "sse"))
def test_streamed_responses(replay, name):
    import json

    client = openai_client(replay, f"{name}.sse")
    events = [strictly(event) for event in client.responses.create(model="m", input="hi", stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    if name in FAILED:
        assert last.status == "failed" and last.error.code == "server_error"
    else:
        assert last.status == ("incomplete" if name in ("length", "filtered") else "completed")
        assert last.output_text == TEXTS.get(name, "Well, " if name == "refusal" else "")
    calls = [(item.call_id, json.loads(item.arguments)) for item in last.output if item.type == "function_call"]
    assert calls == CALLS.get(name, [])

    with client.responses.stream(model="m", input="hi") as stream:
        helped = list(stream)
        assert helped[-1].type == events[-1].type
        if last.status == "completed":
            final = stream.get_final_response()
            assert final.output_text == last.output_text and len(final.output) == len(last.output)
