"""A slow body whose `close()` leaves a mark in the file that MARK names."""

import os
import time


class Body:
    def __iter__(self):
        yield b"begun"
        time.sleep(0.5)
        yield b"ended"

    def close(self):
        with open(os.environ["MARK"], "a") as mark:
            mark.write("closed\n")


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body() if environ["PATH_INFO"] == "/slow" else [b"ready"]
