"""Says what reached it: for the tests of the protocol side."""

import hashlib
import json
import os
import time

targets = []


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/targets":
        return answer(start_response, targets)
    targets.append(environ["RAW_URI"])
    first, _, rest = path[1:].partition("/")
    if first == "busy":
        until = time.perf_counter() + int(rest) / 1e6
        while time.perf_counter() < until:
            pass
    if first == "status":
        # with a body and framing fields, whatever the status: the server must know better
        start_response(f"{rest} Whatever", [("Content-Type", "text/plain"), ("X-Kept", "yes")])
        return [b"a body that may have to go"]
    if first == "chunks":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"chunk %d\n" % i for i in range(int(rest)))
    if first == "sized":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", rest)])
        return [b"x" * int(rest)]
    if first == "ignore":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "7")])
        return [b"ignored"]
    if first == "nap":
        time.sleep(float(rest))
    body = environ["wsgi.input"].read()
    said = {k: v for k, v in environ.items() if isinstance(v, str)}
    return answer(
        start_response,
        {
            "environ": said,
            "pid": os.getpid(),
            "body": body[:1000].decode("latin-1"),
            "body_bytes": len(body),
            "body_sha256": hashlib.sha256(body).hexdigest(),
        },
    )


def answer(start_response, what):
    data = json.dumps(what).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]
