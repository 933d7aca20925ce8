"""A provider whose answers the tests choose: by the path, and by a few words in the last message."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
WORDS = ["Hello", " caf\u00e9", " \U0001f600", "."]
AUDIO = bytes(range(256)) * 40
VECTOR_BASE64 = "AACAPwAAAEAAAEBA"  # 1.0, 2.0, 3.0 as little-endian floats


class ScriptedProvider:
    """Listens on loopback and keeps what it received."""

    def __init__(self, key):
        self.requests = []
        provider = self

        class Server(ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True

        class Handler(_Handler):
            received = provider.requests
            expected_key = key

        self.server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self._read_body()
        self.received.append({"path": self.path, "headers": dict(self.headers.items()), "body": body})
        if self.headers.get("authorization") != f"Bearer {self.expected_key}":
            return self._json(401, {"error": {"message": "wrong key", "type": "invalid_request_error"}})
        answer = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/embeddings": self._embedding,
            "/v1/responses": self._response,
            "/v1/moderations": lambda body: self._json(
                200, {"id": "modr-1", "model": "up-model", "results": [{"flagged": False, "categories": {}, "category_scores": {}}]}
            ),
            "/v1/audio/speech": lambda body: self._send(200, "audio/mpeg", AUDIO),
            "/v1/audio/transcriptions": lambda body: self._json(200, {"text": f"{len(body)} bytes"}),
            "/v1/audio/translations": lambda body: self._json(200, {"text": f"{len(body)} bytes"}),
            "/v1/images/generations": lambda body: self._json(200, {"created": 1, "data": [{"b64_json": "QUJD"}]}),
            "/v1/images/edits": lambda body: self._json(200, {"created": 1, "data": [{"b64_json": "QUJD"}]}),
        }.get(self.path)
        if answer is None:
            return self._json(404, {"error": {"message": "no such path"}})
        return answer(body)

    def _read_body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline().strip(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _send(self, status, content_type, body, headers=()):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-request-id", "req_upstream")
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _json(self, status, value, headers=()):
        self._send(status, "application/json", json.dumps(value).encode(), headers)

    def _events(self, events):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def _chat(self, body):
        request = json.loads(body)
        words = str(request["messages"][-1]["content"]).split()
        if words[:1] == ["status"]:
            status = int(words[1])
            error = {"message": f"scripted {status}", "type": "scripted", "param": None, "code": "scripted_code"}
            return self._json(status, {"error": error}, [("retry-after", "7"), ("x-ratelimit-remaining-requests", "0")])
        calls = None
        if request.get("tools"):
            name = request["tools"][0]["function"]["name"]
            calls = [
                {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps({"city": city})}}
                for n, city in enumerate(["Paris", "Gen\u00e8ve"])
            ]
        echo = " ".join(words[1:]) if words[:1] == ["echo"] else None
        if request.get("stream"):
            return self._events(_chat_events(request, calls, break_off=words[:1] == ["break"]))
        message = {"role": "assistant", "content": None if calls else echo or "".join(WORDS)}
        if calls:
            message["tool_calls"] = calls
        reason = "tool_calls" if calls else "stop"
        self._json(200, {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": USAGE,
        })  # fmt: skip

    def _completion(self, body):
        request = json.loads(body)
        chunk = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": request["model"]}
        if request.get("stream"):
            events = [
                _data({**chunk, "choices": [{"index": 0, "text": word, "finish_reason": None, "logprobs": None}]}) for word in WORDS
            ]
            events.append(_data({**chunk, "choices": [{"index": 0, "text": "", "finish_reason": "stop", "logprobs": None}]}))
            return self._events([*events, "data: [DONE]\n\n"])
        choice = {"index": 0, "text": "".join(WORDS), "finish_reason": "stop", "logprobs": None}
        return self._json(200, {**chunk, "choices": [choice], "usage": USAGE})

    def _embedding(self, body):
        request = json.loads(body)
        inputs = request["input"] if isinstance(request["input"], list) else [request["input"]]
        vector = VECTOR_BASE64 if request.get("encoding_format") == "base64" else [1.0, 2.0, 3.0]
        data = [{"object": "embedding", "index": n, "embedding": vector} for n, _ in enumerate(inputs)]
        usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
        self._json(200, {"object": "list", "data": data, "model": request["model"], "usage": usage})

    def _response(self, body):
        request = json.loads(body)
        item = {
            "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "".join(WORDS), "annotations": []}],
        }  # fmt: skip
        usage = {
            "input_tokens": 9, "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 13,
        }  # fmt: skip
        base = {
            "id": "resp_1", "object": "response", "created_at": 1, "model": request["model"], "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None, "instructions": None,
        }  # fmt: skip
        done = {**base, "status": "completed", "output": [item], "usage": usage}
        if not request.get("stream"):
            return self._json(200, done)
        started = {**base, "status": "in_progress", "output": [], "usage": None}
        where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        events = [{"type": "response.created", "response": started}, {"type": "response.in_progress", "response": started}]
        events.append({"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": [], "status": "in_progress"}})
        part = {"type": "output_text", "text": "", "annotations": []}
        events.append({"type": "response.content_part.added", **where, "part": part})
        events += [{"type": "response.output_text.delta", **where, "delta": word, "logprobs": []} for word in WORDS]
        events.append({"type": "response.output_text.done", **where, "text": "".join(WORDS), "logprobs": []})
        events.append({"type": "response.content_part.done", **where, "part": item["content"][0]})
        events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
        events.append({"type": "response.completed", "response": done})
        self._events(
            f"event: {event['type']}\n{_data({**event, 'sequence_number': n})}" for n, event in enumerate(events)
        )


def _data(value):
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _chat_events(request, calls, break_off):
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": request["model"]}
    asked = (request.get("stream_options") or {}).get("include_usage")
    if asked:
        base["usage"] = None

    def chunk(delta, reason=None):
        return _data({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    yield chunk({"role": "assistant", "content": "" if not calls else None})
    for index, call in enumerate(calls or []):
        arguments = call["function"]["arguments"]
        first = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        yield chunk({"tool_calls": [first]})
        for at in range(0, len(arguments), 3):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + 3]}}]})
    for word in WORDS if not calls else []:
        yield chunk({"content": word})
    if break_off:
        return
    yield chunk({}, "tool_calls" if calls else "stop")
    if asked:
        yield _data({**base, "choices": [], "usage": USAGE})
    yield "data: [DONE]\n\n"
