"""The first file that an application's own Python runs as a worker: is it fit, then on to the gateway.

The syntax is that of every Python since 2.7, so that one too old says so in a line, not by a SyntaxError.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CHANNEL_FD = 3


def unfit():
    """Why this interpreter cannot load the extension, or None."""
    version = "%d.%d.%d" % sys.version_info[:3]
    if sys.version_info < (3, 10):
        return "Python %s at `%s` is too old: a worker needs 3.10 or newer" % (version, sys.executable)
    if sys.implementation.name != "cpython":
        return "`%s` is %s: a worker needs CPython" % (sys.executable, sys.implementation.name)
    if "t" in getattr(sys, "abiflags", ""):
        return "`%s` is a free-threaded build: a worker needs the ordinary one" % sys.executable
    if "musl" in getattr(sys.implementation, "_multiarch", ""):
        return "`%s` is built for musl: a worker needs glibc" % sys.executable
    return None


def refuse(why):
    """Tells the supervisor, which prints it, and ends."""
    import json
    import socket

    channel = socket.fromfd(CHANNEL_FD, socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.send(json.dumps({"Unfit": {"why": why}}).encode("ascii", "replace"))
    except (OSError, IOError):
        sys.stderr.write(why + "\n")
    os._exit(70)


def load(name, path, loader):
    """A module by its path, under a private name: nothing of ours gets into the application's imports."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, path, loader=loader(name, path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main():
    """Ends the process with the exit code that the supervisor reads."""
    # `python boot.py` puts our folder first, unless the interpreter runs in safe-path mode.
    if sys.path and sys.path[0] and os.path.abspath(sys.path[0]) == HERE:
        del sys.path[0]
    why = unfit()
    if why:
        refuse(why)

    from importlib.machinery import ExtensionFileLoader, SourceFileLoader

    extension = os.path.join(HERE, "trivet_native.abi3.so")
    if not os.path.exists(extension):
        extension = os.environ.get("TRIVET_NATIVE", extension)
    # The application is not to see what was meant for us.
    os.environ.pop("TRIVET_NATIVE", None)
    try:
        native = load("_trivet_native", extension, ExtensionFileLoader)
    except ImportError as error:
        refuse("the extension `%s` cannot be loaded: %s" % (extension, error))
    gateway = load("_trivet_gateway", os.path.join(HERE, "gateway.py"), SourceFileLoader)
    sys.exit(gateway.main(native))


if __name__ == "__main__":
    main()
