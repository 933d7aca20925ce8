"""Providers that speak their own protocols. What they say is chosen by the first word of the last user text; each
protocol writes the same little script in its own way, and refuses requests that its original would refuse."""

import base64
import json
import struct
import threading
import urllib.parse
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["Hello", " caf\u00e9", " \U0001f600", "."]
SIGNATURE = "c2lnbmF0dXJlLW9mLWEtdGhvdWdodA=="
INPUT_TOKENS = 11
CACHED_TOKENS = 3
OUTPUT_TOKENS = 7


class Refused(Exception):
    """The provider's own 400."""


def need(condition, message):
    if not condition:
        raise Refused(message)


class Script:
    """What is said: steps of ('text', piece), ('think', text, signature), ('tool', id, name, pieces of JSON) and one
    ('finish', reason); and where it breaks."""

    def __init__(self, steps, status=200, breaks=None):
        self.steps, self.status, self.breaks = steps, status, breaks


def script_for(text, results, has_tools):
    """`results`: texts of the tool results that stand behind the last user text, in order."""
    word, _, rest = text.strip().partition(" ")
    finish = ("finish", "stop")
    if word == "weather" and not results:
        need(has_tools, "no tools were sent")
        calls = [
            ("tool", "call_paris", "get_weather", ['{"ci', 'ty": "Paris"}']),
            ("tool", "call_rome", "get_weather", ['{"city"', ': "Rome"}']),
        ]
        return Script([("text", "Looking."), *calls, ("finish", "tools")])
    if word == "weather":
        return Script([("text", "; ".join(results)), finish])
    if word == "now" and not results:
        return Script([("tool", "call_now", "get_time", []), ("finish", "tools")])
    if word == "now":
        return Script([("text", results[0]), finish])
    if word == "think":
        return Script([("think", "Let me think.", SIGNATURE), ("text", "42"), finish])
    if word == "thinktool" and not results:
        return Script(
            [("think", "I need the weather.", SIGNATURE), ("tool", "call_w", "get_weather", ['{"city": "Oslo"}']), ("finish", "tools")]
        )
    if word == "thinktool":
        return Script([("text", results[0]), finish])
    if word == "json":
        return Script([("text", '{"ans'), ("text", 'wer": 42}'), finish])
    if word == "long":
        return Script([("text", "and so on"), ("finish", "length")])
    if word == "refuse":
        return Script([("finish", "refusal")])
    if word == "status":
        return Script([], status=int(rest))
    if word in ("error-first", "error-middle", "hang-head", "hang-first", "hang-middle", "no-end"):
        return Script([("text", "Hello"), ("text", " world"), finish], breaks=word)
    return Script([*[("text", word) for word in WORDS], finish])


class Provider:
    """Listens on loopback and keeps what it received. `answer(request)` is given by each protocol."""

    def __init__(self):
        self.received = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                url = urllib.parse.urlsplit(self.path)
                request = {
                    "path": url.path,
                    "query": url.query,
                    "headers": {name.lower(): value for name, value in self.headers.items()},
                    "raw": body,
                    "body": json.loads(body) if body[:1] == b"{" else body,
                }
                provider.received.append(request)
                try:
                    provider.answer(self, request)
                except Refused as refused:
                    provider.refuse(self, 400, str(refused))

        class Server(ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    # What each protocol says in its own way.

    def answer(self, handler, request):
        raise NotImplementedError

    def refuse(self, handler, status, message):
        raise NotImplementedError

    # Helpers.

    def send(self, handler, status, body, content_type="application/json", headers=()):
        handler.send_response(status)
        handler.send_header("content-type", content_type)
        handler.send_header("content-length", str(len(body)))
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def send_json(self, handler, status, value, headers=()):
        self.send(handler, status, json.dumps(value).encode(), headers=headers)

    def stream(self, handler, pieces, content_type, script, error):
        """Chunks, broken off where the script says so. `pieces` begin with what opens the stream; `error` is the
        protocol's way to say that it is overloaded."""
        if script.breaks == "hang-head":
            return self.hang_up(handler)
        handler.send_response(200)
        handler.send_header("content-type", content_type)
        handler.send_header("transfer-encoding", "chunked")
        handler.send_header(*self.request_id_header)
        handler.end_headers()

        def chunk(data):
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            handler.wfile.flush()

        if script.breaks == "hang-first":
            return self.hang_up(handler)
        if script.breaks == "error-first":
            chunk(error)
            return chunk(b"")
        for number, piece in enumerate(pieces):
            chunk(piece)
            if number == self.pieces_before_break:
                if script.breaks == "hang-middle":
                    return self.hang_up(handler)
                if script.breaks == "no-end":
                    return chunk(b"")
                if script.breaks == "error-middle":
                    chunk(error)
                    return chunk(b"")
        chunk(b"")

    def hang_up(self, handler):
        handler.wfile.flush()
        handler.connection.shutdown(2)
        handler.close_connection = True

    def whole(self, handler, script, value, error):
        if script.breaks in ("hang-head", "hang-first", "hang-middle", "no-end"):
            if script.breaks != "hang-head":
                handler.send_response(200)
                handler.send_header("content-type", "application/json")
                handler.send_header("content-length", "1000")
                handler.end_headers()
            if script.breaks in ("hang-middle", "no-end"):
                handler.wfile.write(b'{"unfinished":')
            return self.hang_up(handler)
        if script.breaks:
            return self.refuse(handler, 503, error)
        return self.send_json(handler, 200, value, headers=[self.request_id_header])


def sse(value, name=None):
    event = f"event: {name}\n" if name else ""
    return f"{event}data: {json.dumps(value)}\n\n".encode()


class AnthropicProvider(Provider):
    """POST /v1/messages."""

    key = "sk-ant-SECRET-a11ce"
    request_id_header = ("request-id", "req_anthropic_1")
    pieces_before_break = 2
    known = {
        "model", "max_tokens", "messages", "system", "stop_sequences", "stream", "temperature", "top_p", "top_k", "tools",
        "tool_choice", "thinking", "output_config", "metadata", "service_tier", "cache_control",
    }  # fmt: skip
    stop = {"stop": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "refusal"}
    kinds = {400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}

    def refuse(self, handler, status, message):
        kind = self.kinds.get(status, "api_error")
        headers = [self.request_id_header] + ([("retry-after", "7")] if status == 429 else [])
        self.send_json(handler, status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_anthropic_1"}, headers)

    def answer(self, handler, request):
        if request["headers"].get("x-api-key") != self.key or "authorization" in request["headers"]:
            return self.send_json(handler, 401, {"type": "error", "error": {"type": "authentication_error", "message": f"invalid x-api-key {self.key}"}})
        need("anthropic-version" in request["headers"], "anthropic-version: header is required")
        body = request["body"]
        if request["path"] == "/v1/messages/count_tokens":
            return self.send_json(handler, 200, {"input_tokens": 14})
        if request["path"] != "/v1/messages":
            return self.refuse(handler, 404, "Not found")
        for name in body:
            need(name in self.known, f"{name}: Extra inputs are not permitted")
        need(isinstance(body.get("max_tokens"), int) and body["max_tokens"] > 0, "max_tokens: Field required")
        script = script_for(*self.said(body))
        if script.status != 200:
            return self.refuse(handler, script.status, f"scripted {script.status}")
        usage = {"input_tokens": INPUT_TOKENS, "cache_read_input_tokens": CACHED_TOKENS, "cache_creation_input_tokens": 0, "output_tokens": 1}
        message = {"id": "msg_01", "type": "message", "role": "assistant", "model": body["model"], "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        reason = self.stop[script.steps[-1][1]]
        overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        if not body.get("stream"):
            message["content"] = [self.block(step, whole=True) for step in self.joined(script.steps)]
            message.update(stop_reason=reason, usage={**usage, "output_tokens": OUTPUT_TOKENS})
            return self.whole(handler, script, message, "Overloaded")
        pieces = [sse({"type": "message_start", "message": message}, "message_start"), sse({"type": "ping"}, "ping")]
        index = -1
        last = None
        for step in script.steps[:-1]:
            if not (step[0] == "text" and last == "text"):
                if index >= 0:
                    pieces.append(sse({"type": "content_block_stop", "index": index}, "content_block_stop"))
                index += 1
                pieces.append(sse({"type": "content_block_start", "index": index, "content_block": self.block(step, whole=False)}, "content_block_start"))
            last = step[0]
            pieces += [sse({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta") for delta in self.deltas(step)]
        if index >= 0:
            pieces.append(sse({"type": "content_block_stop", "index": index}, "content_block_stop"))
        pieces.append(sse({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": OUTPUT_TOKENS}}, "message_delta"))
        pieces.append(sse({"type": "message_stop"}, "message_stop"))
        return self.stream(handler, pieces, "text/event-stream; charset=utf-8", script, sse(overloaded, "error"))

    @staticmethod
    def joined(steps):
        whole = []
        for step in steps[:-1]:
            if step[0] == "text" and whole and whole[-1][0] == "text":
                whole[-1] = ("text", whole[-1][1] + step[1])
            else:
                whole.append(step)
        return whole

    @staticmethod
    def block(step, whole):
        if step[0] == "text":
            return {"type": "text", "text": step[1] if whole else ""}
        if step[0] == "think":
            return {"type": "thinking", "thinking": step[1] if whole else "", "signature": step[2] if whole else ""}
        arguments = json.loads("".join(step[3]) or "{}") if whole else {}
        return {"type": "tool_use", "id": step[1], "name": step[2], "input": arguments}

    @staticmethod
    def deltas(step):
        if step[0] == "text":
            return [{"type": "text_delta", "text": step[1]}]
        if step[0] == "think":
            return [{"type": "thinking_delta", "thinking": step[1]}, {"type": "signature_delta", "signature": step[2]}]
        return [{"type": "input_json_delta", "partial_json": piece} for piece in step[3]]

    def said(self, body):
        """The last user text, the results behind it, whether there are tools; and the protocol's rules of turns."""
        text, results, pending, thought = "", [], [], False
        for message in body["messages"]:
            blocks = message["content"]
            blocks = [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks
            need(blocks, "messages: content is empty")
            if message["role"] == "assistant":
                need(not pending, "tool_use ids were found without tool_result blocks")
                pending = [block["id"] for block in blocks if block["type"] == "tool_use"]
                for block in blocks:
                    if block["type"] == "thinking":
                        need(block["signature"] == SIGNATURE, "thinking: Invalid `signature`")
                        thought = True
                    if block["type"] == "tool_use":
                        need(isinstance(block["input"], dict), "tool_use.input: Input should be a valid dictionary")
                if text.startswith("thinktool") and pending:
                    need(thought and blocks[0]["type"] == "thinking", "Expected `thinking`, but found `tool_use`")
                continue
            need(message["role"] == "user", "messages: Unexpected role")
            given = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            need(given == pending, f"tool_use ids were found without tool_result blocks: {pending} {given}")
            need([b["type"] for b in blocks][: len(given)] == ["tool_result"] * len(given), "tool_result blocks must come first")
            pending = []
            for block in blocks:
                if block["type"] == "tool_result":
                    content = block.get("content", "")
                    results.append(content if isinstance(content, str) else "".join(part.get("text", "") for part in content))
                elif block["type"] == "text":
                    need(block["text"].strip(), "text content blocks must contain non-whitespace text")
                    text, results = block["text"], []
                elif block["type"] == "image":
                    data = block["source"]
                    need(data["type"] == "url" or data["media_type"] in ("image/png", "image/jpeg", "image/gif", "image/webp"), "image: media type")
                    need(data["type"] == "url" or base64.b64decode(data["data"], validate=True), "image: data")
        return text, results, bool(body.get("tools"))


class GeminiProvider(Provider):
    """POST /v1beta/models/MODEL:generateContent and :streamGenerateContent, and embeddings; the same below Vertex's paths."""

    key = "AIza-SECRET-9e371"
    request_id_header = ("x-goog-request-id", "gem-1")
    pieces_before_break = 0
    known = {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "generationConfig", "cachedContent", "labels", "serviceTier"}
    stop = {"stop": "STOP", "tools": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}
    words = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}

    def __init__(self, bearer=None):
        super().__init__()
        self.bearer = bearer

    def refuse(self, handler, status, message):
        error = {"code": status, "message": message, "status": self.words.get(status, "UNKNOWN")}
        if status == 429:
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}]
        self.send_json(handler, status, {"error": error})

    def answer(self, handler, request):
        headers, body = request["headers"], request["body"]
        need("key=" not in request["query"], "the key stands in the URL")
        if self.bearer is None:
            if headers.get("x-goog-api-key") != self.key or "authorization" in headers:
                error = {"code": 400, "message": f"API key not valid: {self.key}", "status": "INVALID_ARGUMENT", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}
                return self.send_json(handler, 400, {"error": error})
        elif headers.get("authorization") != f"Bearer {self.bearer()}":
            return self.send_json(handler, 401, {"error": {"code": 401, "message": "invalid token", "status": "UNAUTHENTICATED"}})
        model, _, method = request["path"].rpartition("/")[2].partition(":")
        if method == "embedContent":
            return self.send_json(handler, 200, {"embedding": {"values": [1.0, 2.0, 3.0]}})
        if method == "batchEmbedContents":
            return self.send_json(handler, 200, {"embeddings": [{"values": [float(n), 2.0, 3.0]} for n, _ in enumerate(body["requests"])]})
        if method == "predict":
            rows = [{"embeddings": {"values": [float(n), 2.0, 3.0], "statistics": {"token_count": 2}}} for n, _ in enumerate(body["instances"])]
            return self.send_json(handler, 200, {"predictions": rows})
        if method not in ("generateContent", "streamGenerateContent"):
            return self.refuse(handler, 404, "no such method")
        for name in body:
            need(name in self.known, f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
        script = script_for(*self.said(body))
        if script.status != 200:
            return self.refuse(handler, script.status, f"scripted {script.status}")
        reason = self.stop[script.steps[-1][1]]
        usage = {"promptTokenCount": INPUT_TOKENS + CACHED_TOKENS, "cachedContentTokenCount": CACHED_TOKENS, "candidatesTokenCount": OUTPUT_TOKENS - 2, "thoughtsTokenCount": 2, "totalTokenCount": INPUT_TOKENS + CACHED_TOKENS + OUTPUT_TOKENS}
        parts = [self.part(step) for step in script.steps[:-1]]
        last = {"finishReason": reason, "index": 0}
        rest = {"modelVersion": model, "responseId": "gemini-response-1"}
        if method == "generateContent":
            candidate = {"content": {"role": "model", "parts": parts}, **last} if parts else last
            return self.whole(handler, script, {"candidates": [candidate], "usageMetadata": usage, **rest}, "The model is overloaded.")
        need("alt=sse" in request["query"], "alt=sse was not asked for")
        pieces = [{"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}], **rest} for part in parts]
        pieces = pieces or [{"candidates": [{"index": 0}], **rest}]
        pieces[-1]["candidates"][0].update(last)
        pieces[-1]["usageMetadata"] = usage
        error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
        events = [sse(piece).replace(b"\n", b"\r\n") for piece in pieces]
        return self.stream(handler, events, "text/event-stream", script, sse(error).replace(b"\n", b"\r\n"))

    @staticmethod
    def part(step):
        if step[0] == "text":
            return {"text": step[1]}
        if step[0] == "think":
            return {"text": step[1], "thought": True}
        return {"functionCall": {"name": step[2], "args": json.loads("".join(step[3]) or "{}")}, "thoughtSignature": SIGNATURE}

    def said(self, body):
        text, results, calls = "", [], []
        need(body.get("contents"), "contents is not specified")
        for content in body["contents"]:
            need(content.get("parts"), "contents.parts must not be empty")
            need(content["role"] in ("user", "model"), "Please use a valid role: user, model.")
            if content["role"] == "model":
                calls = [part["functionCall"]["name"] for part in content["parts"] if "functionCall" in part]
                signatures = [part.get("thoughtSignature") for part in content["parts"] if "functionCall" in part]
                need(not calls or signatures[0] == SIGNATURE, "Function call is missing a thought_signature")
                continue
            given = [part["functionResponse"]["name"] for part in content["parts"] if "functionResponse" in part]
            need(given == calls, f"the number of function response parts is not equal to the number of function call parts: {calls} {given}")
            calls = []
            for part in content["parts"]:
                if "text" in part:
                    text, results = part["text"], []
                elif "functionResponse" in part:
                    need(isinstance(part["functionResponse"]["response"], dict), "functionResponse.response is no object")
                    results.append(str(next(iter(part["functionResponse"]["response"].values()))))
                elif "inlineData" in part:
                    need(base64.b64decode(part["inlineData"]["data"], validate=True), "inlineData")
        return text, results, bool(body.get("tools"))


class BedrockProvider(Provider):
    """Converse, ConverseStream and InvokeModel for embeddings. `check(request)` verifies the signature."""

    request_id_header = ("x-amzn-requestid", "bedrock-1")
    pieces_before_break = 1
    known = {
        "messages", "system", "inferenceConfig", "toolConfig", "guardrailConfig", "additionalModelRequestFields", "promptVariables",
        "additionalModelResponseFieldPaths", "requestMetadata", "performanceConfig", "serviceTier", "outputConfig",
    }  # fmt: skip
    stop = {"stop": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "guardrail_intervened"}
    kinds = {400: "ValidationException", 404: "ResourceNotFoundException", 424: "ModelErrorException", 429: "ThrottlingException", 500: "InternalServerException", 503: "ServiceUnavailableException"}

    def __init__(self, check):
        super().__init__()
        self.check = check

    def refuse(self, handler, status, message):
        self.send_json(handler, status, {"message": message}, [("x-amzn-errortype", f"{self.kinds.get(status, 'X')}:http://internal.amazon.com/"), self.request_id_header])

    def answer(self, handler, request):
        problem = self.check(request)
        if problem:
            return self.send_json(handler, 403, {"message": problem}, [("x-amzn-errortype", "InvalidSignatureException")])
        body = request["body"]
        model, operation = urllib.parse.unquote(request["path"]).removeprefix("/model/").rsplit("/", 1)
        if operation == "invoke":
            if "titan" in model:
                return self.send_json(handler, 200, {"embedding": [float(len(body["inputText"])), 2.0, 3.0], "inputTextTokenCount": 2})
            return self.send_json(handler, 200, {"id": "e", "embeddings": [[float(n), 2.0, 3.0] for n, _ in enumerate(body["texts"])], "response_type": "embeddings_floats"}, [("x-amzn-bedrock-input-token-count", "4")])
        for name in body:
            need(name in self.known, f"Unknown parameter {name}")
        script = script_for(*self.said(body))
        if script.status != 200:
            return self.refuse(handler, script.status, f"scripted {script.status}")
        reason = self.stop[script.steps[-1][1]]
        usage = {"inputTokens": INPUT_TOKENS, "cacheReadInputTokens": CACHED_TOKENS, "outputTokens": OUTPUT_TOKENS, "totalTokens": INPUT_TOKENS + CACHED_TOKENS + OUTPUT_TOKENS}
        if operation == "converse":
            content = [self.block(step) for step in AnthropicProvider.joined(script.steps)]
            value = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": reason, "usage": usage, "metrics": {"latencyMs": 5}}
            return self.whole(handler, script, value, "Bedrock is unable to process your request.")
        need(operation == "converse-stream", "no such operation")
        pieces = [frame("messageStart", {"role": "assistant"})]
        index, last = -1, None
        for step in script.steps[:-1]:
            if not (step[0] == "text" and last == "text"):
                if index >= 0:
                    pieces.append(frame("contentBlockStop", {"contentBlockIndex": index}))
                index += 1
                if step[0] == "tool":
                    pieces.append(frame("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": step[1], "name": step[2]}}}))
            last = step[0]
            pieces += [frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in self.deltas(step)]
        if index >= 0:
            pieces.append(frame("contentBlockStop", {"contentBlockIndex": index}))
        pieces.append(frame("messageStop", {"stopReason": reason}))
        pieces.append(frame("metadata", {"usage": usage, "metrics": {"latencyMs": 5}}))
        error = frame("throttlingException", {"message": "Too many tokens"}, kind="exception")
        return self.stream(handler, pieces, "application/vnd.amazon.eventstream", script, error)

    @staticmethod
    def block(step):
        if step[0] == "text":
            return {"text": step[1]}
        if step[0] == "think":
            return {"reasoningContent": {"reasoningText": {"text": step[1], "signature": step[2]}}}
        return {"toolUse": {"toolUseId": step[1], "name": step[2], "input": json.loads("".join(step[3]) or "{}")}}

    @staticmethod
    def deltas(step):
        if step[0] == "text":
            return [{"text": step[1]}]
        if step[0] == "think":
            return [{"reasoningContent": {"text": step[1]}}, {"reasoningContent": {"signature": step[2]}}]
        return [{"toolUse": {"input": piece}} for piece in step[3]]

    def said(self, body):
        text, results, pending = "", [], []
        for message in body["messages"]:
            need(message["content"], "The content field in the Message object is empty.")
            if message["role"] == "assistant":
                pending = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
                continue
            given = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
            need(given == pending, f"Expected toolResult blocks for {pending}, found {given}")
            pending = []
            for block in message["content"]:
                if "text" in block:
                    text, results = block["text"], []
                elif "toolResult" in block:
                    results.append("".join(part.get("text") or json.dumps(part.get("json")) for part in block["toolResult"]["content"]))
                elif "image" in block:
                    need(block["image"]["format"] in ("png", "jpeg", "gif", "webp"), "image format")
        return text, results, "toolConfig" in body


def frame(name, payload, kind="event"):
    """One event-stream message."""
    key = ":event-type" if kind == "event" else ":exception-type"
    headers = b""
    for header, value in ((key, name), (":content-type", "application/json"), (":message-type", kind)):
        headers += bytes([len(header)]) + header.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    message = prelude + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


class OpenAiProvider(Provider):
    """POST /v1/chat/completions as servers write it that have no Responses and no Messages; the same on Azure's
    paths. `authorized(headers)` says whether the key is right."""

    key = "sk-compatible-SECRET-77"
    request_id_header = ("x-request-id", "chat-1")
    pieces_before_break = 1
    stop = {"stop": "stop", "tools": "tool_calls", "length": "length", "refusal": "content_filter"}

    def __init__(self, authorized=None):
        super().__init__()
        self.authorized = authorized or (lambda headers: headers.get("authorization") == f"Bearer {self.key}")

    def refuse(self, handler, status, message):
        headers = [self.request_id_header] + ([("retry-after", "7")] if status == 429 else [])
        self.send_json(handler, status, {"error": {"message": message, "type": "scripted", "code": None, "param": None}}, headers)

    def answer(self, handler, request):
        if not self.authorized(request["headers"]):
            return self.refuse(handler, 401, f"wrong key; it is {self.key}")
        body = request["body"]
        if request["path"].endswith("/embeddings"):
            return self.send_json(handler, 200, {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}], "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1}})
        if not request["path"].endswith("/chat/completions"):
            return self.refuse(handler, 404, "no such path")
        script = script_for(*self.said(body))
        if script.status != 200:
            return self.refuse(handler, script.status, f"scripted {script.status}")
        reason = self.stop[script.steps[-1][1]]
        usage = {"prompt_tokens": INPUT_TOKENS + CACHED_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": INPUT_TOKENS + CACHED_TOKENS + OUTPUT_TOKENS, "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS}}
        frame_of = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": body["model"]}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(step[1] for step in script.steps if step[0] == "text") or None}
            thoughts = "".join(step[1] for step in script.steps if step[0] == "think")
            calls = [{"id": step[1], "type": "function", "function": {"name": step[2], "arguments": "".join(step[3]) or "{}"}} for step in script.steps if step[0] == "tool"]
            message.update({"reasoning_content": thoughts} if thoughts else {}, **({"tool_calls": calls} if calls else {}))
            return self.whole(handler, script, {**frame_of, "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage}, "overloaded")
        need(body.get("stream_options", {}).get("include_usage"), "include_usage was not asked for")
        deltas = [{"role": "assistant", "content": ""}]
        tools = 0
        for step in script.steps[:-1]:
            if step[0] == "text":
                deltas.append({"content": step[1]})
            elif step[0] == "think":
                deltas.append({"reasoning_content": step[1]})
            else:
                deltas.append({"tool_calls": [{"index": tools, "id": step[1], "type": "function", "function": {"name": step[2], "arguments": ""}}]})
                deltas += [{"tool_calls": [{"index": tools, "function": {"arguments": piece}}]} for piece in step[3]]
                tools += 1
        chunk = {**frame_of, "object": "chat.completion.chunk"}
        events = [sse({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}) for delta in deltas]
        events.append(sse({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": None}))
        events.append(sse({**chunk, "choices": [], "usage": usage}))
        events.append(b"data: [DONE]\n\n")
        error = sse({"error": {"message": "Overloaded", "type": "overloaded", "code": 503}})
        return self.stream(handler, events, "text/event-stream", script, error)

    def said(self, body):
        text, results, pending = "", [], []
        for message in body["messages"]:
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
            if message["role"] == "assistant":
                need(not pending, "tool calls without results")
                pending = [call["id"] for call in message.get("tool_calls", [])]
                for call in message.get("tool_calls", []):
                    json.loads(call["function"]["arguments"])
            elif message["role"] == "tool":
                need(message["tool_call_id"] in pending, "a result without a call")
                pending.remove(message["tool_call_id"])
                results.append("".join(part["text"] for part in parts))
            elif message["role"] == "user":
                need(not pending, "tool calls without results")
                texts = [part["text"] for part in parts if part["type"] == "text"]
                text, results = (texts[-1] if texts else text), []
        return text, results, bool(body.get("tools"))
