"""Big bodies in both directions."""

import hashlib
import json
import os
import time

BLOCK = bytes(range(256)) * 256  # 64 KiB


def application(environ, start_response):
    kind, _, size = environ["PATH_INFO"][1:].partition("/")
    if kind in ("upload", "upload-with-pause"):
        digest = hashlib.sha256()
        total = 0
        if kind == "upload-with-pause":
            first = environ["wsgi.input"].read(200_000)
            digest.update(first)
            total += len(first)
            time.sleep(0.5)
        while data := environ["wsgi.input"].read(1 << 16):
            digest.update(data)
            total += len(data)
        answer = json.dumps([total, digest.hexdigest()]).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]
    if kind == "generate":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (BLOCK for _ in range(int(size) // len(BLOCK)))
    if kind == "generate-sized":
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", size)])
        return (BLOCK for _ in range(int(size) // len(BLOCK)))
    if kind == "file":
        file = open(os.environ["BIG_FILE"], "rb")  # noqa: SIM115 - the wrapper closes it
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return environ["wsgi.file_wrapper"](file)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ready"]
