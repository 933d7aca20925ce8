"""What schemathesis runs with: it may take its own access away, and then gets it back from the local administrator."""

import atexit
import collections
import json
import os
import subprocess
import threading

import schemathesis

BINARY, CONFIG = os.environ["GATEWAY_BIN"], os.environ["FUZZ_CONFIG"]
EMAIL, ROLE, STATUSES = os.environ["FUZZ_EMAIL"], os.environ["FUZZ_ROLE"], os.environ["FUZZ_STATUSES"]
# An admin who was made a member gets no 401 by which one would notice.
CALLS_BETWEEN_REPAIRS = 150

lock = threading.Lock()
counts = collections.defaultdict(collections.Counter)
state = {"token": "", "calls": 0, "tokens": 0}


def admin(*arguments):
    done = subprocess.run(
        [BINARY, "admin", "--config", CONFIG, *arguments], capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


def repair(new_token):
    admin("user", "create", EMAIL)
    admin("user", "activate", EMAIL)
    admin("user", "set-role", EMAIL, ROLE)
    if new_token:
        state["tokens"] += 1
        state["token"] = admin("token", "create", "--user", EMAIL, "--name", f"fuzz-{state['tokens']}")


@schemathesis.auth(refresh_interval=None)
class Bearer:
    def get(self, case, context):
        with lock:
            if not state["token"]:
                repair(new_token=True)
            return state["token"]

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def after_call(context, case, response):
    with lock:
        state["calls"] += 1
        with_token = response.request.headers.get("Authorization", "") == f"Bearer {state['token']}"
        if with_token:
            counts[case.operation.label][str(response.status_code)] += 1
        if with_token and response.status_code == 401:
            repair(new_token=True)
        elif state["calls"] % CALLS_BETWEEN_REPAIRS == 0:
            repair(new_token=False)


@atexit.register
def write():
    with open(STATUSES, "w") as file:
        json.dump({label: dict(statuses) for label, statuses in counts.items()}, file)
