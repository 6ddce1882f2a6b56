"""What routes and interceptors add to a request of `trivet.App`: CPU time of a call in process, no socket.

usage: python3 bench/costs.py [--rounds N]     needs `make build`

The same request goes to apps that differ in one thing. Each round asks all of them, one after the other; what counts is
the best of the rounds, as others use the machine."""
import argparse
import io
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

from trivet import App  # noqa: E402

CALLS = 4000


def environ(path):
    return {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8000",
            "HTTP_USER_AGENT": "bench", "HTTP_ACCEPT": "*/*", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.multithread": False, "wsgi.multiprocess": True,
            "wsgi.run_once": False}


def routed(n):
    """An app with n routes of all kinds; the one that is asked comes last."""
    app = App()
    for k in range(n - 1):
        template = (f"/r{k}", f"/a{k}/{{x}}", f"/b/{k}/{{x:int}}/c", f"/d/{{x}}/e{k}")[k % 4]
        app.get(template)((lambda: "") if "{" not in template else lambda x: "")
    app.get("/item/{id:int}")(lambda id: {"id": id})
    return app


def intercepted(*interceptors, guard=False):
    app = App()
    for n in range(20):
        app.get(f"/other/{n}/{{name}}")(lambda name: "")
    app.get("/hello")(lambda: "Hello, World!")
    for pattern, function in interceptors:
        app.intercept(pattern, guard=guard)(function)
    return app


def plain():
    return None


def looks(req):
    return None


# By what is asked for; each is compared with the first of its kind.
CASES = {
    "/item/42": {
        "int from the path, 10 routes": routed(10),
        "100 routes": routed(100),
        "1,000 routes": routed(1000),
    },
    "/hello": {
        "hello, no interceptor": intercepted(),
        "10 interceptors that do not match": intercepted(*((f"/other/{n}/*", looks) for n in range(10))),
        "1 that matches": intercepted(("/*", plain)),
        "2 that match": intercepted(("/*", plain), ("/*", lambda: None)),
        "1 that matches and asks for the request": intercepted(("/*", looks)),
        "2 that match and ask for the request": intercepted(("/*", looks), ("/*", lambda req: None)),
        "1 that guards": intercepted(("/*", plain), guard=True),
    },
}


def asked(app, env):
    def start_response(status, fields, exc_info=None):
        seen.append(status)

    seen = []
    assert b"".join(app(env, start_response)) and seen == ["200 OK"], seen


def measured(apps, env, rounds):
    def start_response(status, fields, exc_info=None):
        pass

    best = dict.fromkeys(apps, float("inf"))
    for _ in range(rounds):
        for name, app in apps.items():
            start = time.process_time_ns()
            for _ in range(CALLS):
                app(env, start_response)
            best[name] = min(best[name], (time.process_time_ns() - start) / CALLS)
    return best


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--rounds", type=int, default=60)
    rounds = given.parse_args().rounds
    print("| | ns | more than the first of its kind |\n|---|---|---|")
    for path, apps in CASES.items():
        env = environ(path)
        for app in apps.values():
            asked(app, env)
        best = measured(apps, env, rounds)
        first = next(iter(best.values()))
        for name, ns in best.items():
            print(f"| {name} | {ns:.0f} | {ns - first:+.0f} ns, × {ns / first:.2f} |")


if __name__ == "__main__":
    main()
