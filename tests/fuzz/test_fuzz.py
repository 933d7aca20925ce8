"""The management API against its own OpenAPI document, by a fuzzer that reads it: no 5xx, no answer that the
document does not have, nothing taken that it forbids and nothing refused as malformed that it allows.

FUZZ_SEED and FUZZ_SECONDS search elsewhere and longer than a run of tests/run does."""

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

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BINARY = pathlib.Path(os.environ.get("GATEWAY_BIN", ROOT / "target/release/gateway")).resolve()
SEED = os.environ.get("FUZZ_SEED", "1")
PATIENCE_S = 30


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
    """The binary on a folder of its own, furnished with one of each thing."""

    def __init__(self):
        if not BINARY.exists():
            raise RuntimeError(f"{BINARY} is not there; build it, or set GATEWAY_BIN")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-fuzz-"))
        self.config = self.folder / "config.toml"
        self.config.write_text(
            f'server.listen = "127.0.0.1:0"\nops.listen = "127.0.0.1:{free_port()}"\n'
            f'store.data_dir = "{self.folder}/data"\n'
        )
        self.log = open(self.folder / "log", "w+")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--config", self.config], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        self.url = self.wait_until_ready()
        for command in (
            "user create root@example.com --role admin",
            # While there is another admin, the fuzzer can take its own rights away.
            "user create spare@example.com --role admin",
            "user create ada@example.com",
            "team create search",
            "team add-member search ada@example.com",
            "provider create main --type openai --base-url http://127.0.0.1:9/v1",
            "model add main/m --model-id m",
            "grant user:ada@example.com provider-account-access main",
            "virtual-account create app",
            "token create --virtual-account app --name first",
        ):
            done = subprocess.run(
                [BINARY, "admin", "--config", self.config, *command.split()],
                capture_output=True, text=True, timeout=PATIENCE_S,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}: {done.stderr}"

    def said(self):
        return (self.folder / "log").read_text(errors="replace")

    def wait_until_ready(self):
        tick = threading.Event()
        for _ in range(PATIENCE_S * 50):
            if found := re.search(r"listening on (http://\S+)", self.said()):
                return found.group(1)
            assert self.process.poll() is None, self.said()
            tick.wait(0.02)
        raise AssertionError(f"not ready: {self.said()}")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def gateway():
    gateway = Gateway()
    yield gateway
    gateway.close()


def fuzz(gateway, email, role, seconds):
    """Runs schemathesis as that user, and says how often each operation was answered with each status, where the
    user's token was shown."""
    seconds = os.environ.get("FUZZ_SECONDS", str(seconds))
    statuses = gateway.folder / "statuses.json"
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
        "GATEWAY_BIN": str(BINARY),
        "FUZZ_CONFIG": str(gateway.config),
        "FUZZ_EMAIL": email,
        "FUZZ_ROLE": role,
        "FUZZ_STATUSES": str(statuses),
    }
    done = subprocess.run(
        [
            pathlib.Path(sys.executable).parent / "st", "--config-file", HERE / "schemathesis.toml",
            "run", f"{gateway.url}/api/svc/v1/openapi.json", "--checks", "all", "--seed", SEED,
            "--max-time", seconds, "--generation-database", "none", "--no-color",
        ],
        capture_output=True, text=True, timeout=float(seconds) + 60, cwd=gateway.folder, env=environment,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert gateway.process.poll() is None, f"the gateway ended:\n{gateway.said()[-3000:]}"
    assert "panicked" not in gateway.said(), gateway.said()[-3000:]
    assert done.returncode == 0, f"{done.stdout[-12000:]}\n{done.stderr[-3000:]}"
    counts = json.loads(statuses.read_text())
    total = sum(sum(answered.values()) for answered in counts.values())
    assert total > 100, f"only {total} calls in {seconds} s: this machine is too busy, or the gateway hangs"
    return counts


def share(counts, wanted):
    """The part of all answers that has one of these statuses."""
    total = sum(sum(statuses.values()) for statuses in counts.values())
    found = sum(count for statuses in counts.values() for status, count in statuses.items() if wanted(int(status)))
    return found / total


def test_as_an_admin(gateway):
    counts = fuzz(gateway, "root@example.com", "admin", 50)
    # Or it would have spoken to closed doors.
    assert share(counts, lambda status: status == 401) < 0.1, counts
    assert share(counts, lambda status: status == 200) > 0.2, counts
    done = {label for label, statuses in counts.items() if statuses.get("200")}
    assert len(done) > 0.6 * len(counts), f"never done: {sorted(set(counts) - done)}"


def test_as_a_member(gateway):
    counts = fuzz(gateway, "ada@example.com", "member", 25)
    assert share(counts, lambda status: status == 401) < 0.1, counts
    assert share(counts, lambda status: status == 200) > 0.1, counts
    # A member makes nothing.
    assert not counts.get("POST /api/svc/v1/users/register", {}).get("200"), counts
