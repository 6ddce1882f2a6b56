"""What a client of HTTP/2 asks for, beside the big bodies of `big`."""

import hashlib
import json
import os
import time

import big

TEXT = [("Content-Type", "text/plain")]
seen = []


def application(environ, start_response):
    kind, _, rest = environ["PATH_INFO"][1:].partition("/")
    if kind == "show":
        start_response("200 OK", [("Content-Type", "application/json"), ("X-Mixed-Case", "Kept"), *TEXT[:0]])
        return [json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()]
    if kind == "read":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps([len(body), hashlib.sha256(body).hexdigest()]).encode()]
    if kind == "status":
        start_response(f"{rest} Whatever", [("X-Kept", "yes"), ("Connection", "close"), ("Keep-Alive", "a")])
        return [b"never sent"] if rest in ("204", "304") else [b"sent"]
    if kind == "events":
        return events(start_response, int(rest))
    if kind == "endless":
        return endless(environ, start_response, rest)
    if kind == "seen":
        start_response("200 OK", TEXT)
        return [json.dumps(seen).encode()]
    if kind == "hints":
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")])
        start_response("200 OK", TEXT)
        return [b"hinted"]
    if kind == "fails":
        return fails(start_response)
    if kind == "slow":
        time.sleep(float(rest))
        start_response("200 OK", TEXT)
        return [b"slow"]
    if kind == "early":
        start_response("200 OK", TEXT)
        return [b"not read"]
    if kind == "pid":
        start_response("200 OK", TEXT)
        return [str(os.getpid()).encode()]
    return big.application(environ, start_response)


def events(start_response, count):
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    for number in range(count):
        yield f"data: {number} {time.time()}\n\n".encode()
        time.sleep(0.1)


def endless(environ, start_response, key):
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    try:
        while True:
            yield b"data: still here\n\n"
            time.sleep(0.02)
    finally:
        seen.append(key)


def fails(start_response):
    start_response("200 OK", TEXT)
    yield b"a part"
    time.sleep(0.1)
    raise RuntimeError("in mid-body")
