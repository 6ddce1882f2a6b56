"""Builds the wheel, installs it into an empty virtual environment and serves a request from there."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / "target" / "try-wheel"
ANSWER_SECONDS_MAX = 20


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(url: str, server: "subprocess.Popen[bytes]") -> bytes:
    """The body, as soon as the server gives one."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with opener.open(url, timeout=5) as response:
                return bytes(response.read())
        except urllib.error.URLError:
            time.sleep(0.05)
    raise SystemExit(f"no answer (exit code {server.poll()})")


def main() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)
    environment = SCRATCH / "venv"
    venv.create(environment, with_pip=True)
    pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", SCRATCH, ROOT)
    (wheel,) = SCRATCH.glob("trivet-*.whl")
    run(*pip, "install", "--no-deps", wheel)

    # From elsewhere, without the activation of any environment, so that nothing of the checkout is found.
    trivet = environment / "bin" / "trivet"
    wanted = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    sys.stdout.write(f"{wheel.name}: {wheel.stat().st_size} bytes, {run(trivet, '--version')}\n")
    bind = f"127.0.0.1:{free_port()}"
    hello: list[str | Path] = [
        "--chdir",
        ROOT / "examples" / "hello",
        "--bind",
        bind,
        "--venv",
        environment,
        "app:app",
    ]
    ways: list[list[str | Path]] = [[trivet, "run"], [environment / "bin" / "python", "-m", "trivet", "run"]]
    for way in ways:
        with subprocess.Popen([*way, *hello], cwd=SCRATCH, env=wanted) as server:
            try:
                body = answer(f"http://{bind}/", server)
            finally:
                server.terminate()
        if body != b"Hello, world!\n" or server.returncode != 0:
            raise SystemExit(f"answered {body!r}, ended with {server.returncode}")
    shutil.rmtree(SCRATCH)


if __name__ == "__main__":
    main()
