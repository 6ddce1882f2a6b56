"""The application that APP names, inside `wsgiref.validate`: the server's side is what is checked here.

Frameworks take small liberties on their own side that the validator refuses: they are made up for in between.
"""

import importlib
import os
from wsgiref.validate import validator

module, _, attribute = os.environ["APP"].partition(":")
_app = getattr(importlib.import_module(module), attribute)


def _lawful(environ, start_response):
    def start(status, fields, exc_info=None):
        typed = any(name.lower() == "content-type" for name, _ in fields)
        if status[:3] in ("204", "304"):
            fields = [(name, value) for name, value in fields if name.lower() != "content-type"]
        elif not typed:
            fields = [*fields, ("Content-Type", "application/octet-stream")]
        return start_response(status, fields, exc_info) if exc_info else start_response(status, fields)

    return _app(environ, start)


_checked = validator(_lawful)


def application(environ, start_response):
    # Werkzeug believes this flag and then reads without an argument, which the validator forbids
    environ.pop("wsgi.input_terminated", None)
    return _checked(environ, start_response)
