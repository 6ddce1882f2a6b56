"""Records every request at its entry, so that a test can say which were lost, run once or run twice.

One line `ID PID` is appended to the file that RECORD names, in one write, before anything else happens.
"""

import os
import subprocess
import time

RECORD = os.environ.get("RECORD")
record = os.open(RECORD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if RECORD else None
SERVICE_SECONDS = float(os.environ.get("SERVICE_SECONDS", "0.002"))
STREAM_CHUNKS = 40
STREAM_CHUNK = b"0123456789abcdef" * 64
children = []


def application(environ, start_response):
    kind, _, request_id = environ["PATH_INFO"][1:].partition("/")
    if request_id:
        os.write(record, f"{request_id} {os.getpid()}\n".encode())
    body = environ["wsgi.input"].read()
    if kind == "stream":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return stream()
    if kind == "together":
        together(int(request_id.partition("-")[0]))
    elif kind == "hold":
        hold()
    elif kind == "poison":
        os.kill(os.getpid(), 9)
    elif kind == "children":
        breed()
    elif request_id:
        time.sleep(SERVICE_SECONDS)
    answer = f"{request_id} {os.getpid()}".encode()
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer) + len(body)))]
    )
    return [answer + body]


def stream():
    for _ in range(STREAM_CHUNKS):
        yield STREAM_CHUNK
        time.sleep(SERVICE_SECONDS)


def together(count):
    """Comes back when so many requests are here at the same time, over all processes."""
    deadline = time.monotonic() + 15
    while True:
        with open(RECORD) as lines:
            if sum(line.startswith(f"{count}-") for line in lines) >= count:
                return
        if time.monotonic() > deadline:
            raise TimeoutError("not all slots are served")
        time.sleep(0.005)


def hold():
    """Comes back when the test says so, by a file beside the record."""
    deadline = time.monotonic() + 60
    while not os.path.exists(f"{RECORD}.go"):
        if time.monotonic() > deadline:
            raise TimeoutError("held for too long")
        time.sleep(0.005)


def breed():
    """Leaves processes behind: a child, a grandchild, one in a session of its own."""
    children.append(subprocess.Popen(["sleep", "600"]))
    children.append(subprocess.Popen(["sh", "-c", "sleep 600 & wait"]))
    children.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
