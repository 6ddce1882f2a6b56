"""For sites: says which app it is and what reached it, or answers as its query says.

`/answer?status=503&field=X-A:1&field=X-A:2&body=text` is answered so; `/die` kills the worker; `/nap/SECONDS`
waits, and so does `/stream/COUNT`, a twentieth of a second before each piece.
"""

import json
import os
import signal
import sys
import time
from urllib.parse import parse_qs


def application(environ, start_response):
    kind, _, rest = environ["PATH_INFO"][1:].partition("/")
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    if kind == "answer":
        fields = [tuple(f.split(":", 1)) for f in query.get("field", [])]
        start_response(query.get("status", ["200"])[0] + " Whatever", fields)
        return [query.get("body", ["answered"])[0].encode()]
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "boom":
        raise RuntimeError("boom")
    if kind == "stream":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return stream(int(rest))
    if kind == "nap":
        time.sleep(float(rest))
    body = environ["wsgi.input"].read()
    said = {
        "app": os.environ.get("APP_NAME"),
        "pid": os.getpid(),
        "prefix": sys.prefix,
        "env": {k: v for k, v in os.environ.items() if k.startswith(("APP_", "SECRET"))},
        "environ": {k: v for k, v in environ.items() if isinstance(v, str)},
        "body_bytes": len(body),
    }
    data = json.dumps(said).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]


def stream(count):
    for i in range(count):
        time.sleep(0.05)
        yield b"data: %d\n\n" % i
