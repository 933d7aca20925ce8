"""`gateway serve --demo`: what it prints works when pasted."""

import json
import re
import shutil
import subprocess

from openai import OpenAI

from conftest import not_run


def printed_command(gateway):
    """The `curl` line, with its continuation lines."""
    gateway.wait_for_line("curl")
    lines = gateway.log().splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip().startswith("curl"))
    command = [lines[at]]
    while command[-1].endswith("\\"):
        at += 1
        command.append(lines[at])
    return "\n".join(command).strip()


def test_the_printed_line_streams_an_answer(make_gateway):
    if shutil.which("curl") is None:
        not_run("the demo's curl line (curl is not there)")
    gateway = make_gateway("--demo")
    command = printed_command(gateway)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    events = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", done.stdout
    chunks = [json.loads(event) for event in events[:-1]]
    assert sum(1 for chunk in chunks if chunk["choices"] and chunk["choices"][0]["delta"].get("content")) > 1


def test_the_demo_with_the_sdk(make_gateway):
    gateway = make_gateway("--demo")
    token = re.search(r"tfy_pat_\w+", printed_command(gateway) + gateway.log()).group()
    client = OpenAI(base_url=f"{gateway.url}/v1", api_key=token, max_retries=0)
    assert [model.id for model in client.models.list()] == ["demo/echo"]
    words = "Say caf\u00e9 \U0001f600 back"
    messages = [{"role": "user", "content": "not this"}, {"role": "user", "content": words}]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(model="demo/echo", messages=messages, **options))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == words and len(pieces) >= 4
    usage = chunks[-1].usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    plain = client.chat.completions.create(model="demo/echo", messages=messages)
    assert plain.choices[0].message.content == words
    assert plain.usage.completion_tokens == usage.completion_tokens
