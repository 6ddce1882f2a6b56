"""Requests that take too long, in each way in which that can happen."""

import ctypes
import os
import sys
import threading
import time

libc_with_gil = ctypes.PyDLL(None)
flag = threading.Event()


def hold_the_gil(seconds):
    print("holding the GIL", file=sys.stderr, flush=True)
    libc_with_gil.sleep(int(seconds))


def block_in_python(seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)


def application(environ, start_response):
    kind, _, value = environ["PATH_INFO"][1:].partition("/")
    text = [("Content-Type", "text/plain")]
    if kind == "gil":
        hold_the_gil(float(value))
    elif kind == "block":
        print("blocking in Python", file=sys.stderr, flush=True)
        block_in_python(float(value))
    elif kind == "mid":
        start_response("200 OK", text)
        return middle(float(value))
    elif kind == "chunks":
        start_response("200 OK", text)
        return chunks(float(value))
    elif kind == "closing":
        start_response("200 OK", text)
        return Closing(float(value))
    elif kind == "read":
        environ["wsgi.input"].read()
    elif kind == "big":
        start_response("200 OK", text)
        return [b"x" * int(value)]
    start_response("200 OK", text)
    return [b"%d" % os.getpid()]


class Closing:
    """Blocks in its only chunk, and tells when `close()` is called."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __iter__(self):
        block_in_python(self.seconds)
        yield b"late"

    def close(self):
        print("close() was called", file=sys.stderr, flush=True)


def middle(seconds):
    yield b"begun"
    block_in_python(seconds)
    yield b"never asked for"


def chunks(pause):
    for i in range(8):
        yield b"%d" % i
        block_in_python(pause)
