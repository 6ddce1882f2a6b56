#!/usr/bin/env python3
"""Runs scenarios, writes results/<scenario>.json, prints the tables and what the claims come to.

  run.py hello flask            measure these scenarios (5 interleaved rounds of 3 s; mixed: 20 seeds of 6 s)
  run.py claims                 all scenarios that a claim needs (hours)
  run.py --rounds 5 --secs 4 hello --only trivet,bjoern,granian
  run.py --report [hello ...]   print the tables from results/
  run.py --check-claims [hello ...]   print claim, measured ratio and whether it holds; exit code 1 if one does not
  run.py --check                which servers are there
  run.py --smoke [hello ...]    start each server once and check its answers (no load)
"""
import argparse
import fcntl
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import claims
import database
import loads
import proc
import scenarios
import servers as S
from proc import TICK

RESULTS = S.HERE / "results"
ports = iter(range(20000 + os.getpid() % 100 * 100, 32000))


# ------------------------------------------------------------------ servers
class Running:
    def __init__(self, case, round=0):
        self.dir = Path(tempfile.mkdtemp(prefix="bench-"))
        self.dir.chmod(0o755)
        self.ctx = S.Ctx(case.app, next(ports), case.workers, self.dir, tls=case.tls, round=round,
                         conns=case.conns, key_type=case.key_type, h2=case.h2)
        self.aux, self.procs = [], []
        try:
            self.begin(case)
        except BaseException:
            self.stop()
            raise

    def begin(self, case):
        if case.backend:
            (self.dir / "backend").mkdir()
            back = S.Ctx("", next(ports), 1, self.dir / "backend")
            self.aux.append(self.spawn(S.BACKEND.start(back)[0], {}, back.dir))
            self.ctx.backend = back.port
            self.probe(back, "/")
        env = case.server.env | ({"TRIVET_DB": database.url()} if case.database else {})
        for argv in case.server.start(self.ctx):
            self.procs.append(self.spawn(argv, env, self.dir, case.server.raises_files))
            self.ctx.roots.append(self.procs[-1].pid)
        self.probe(self.ctx, case.probe)

    def spawn(self, argv, env, cwd, raises_files=False):
        log = open(self.dir / "log.txt", "ab")
        base = {"PATH": f"{S.VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": str(self.dir), "PYTHONPATH": str(S.APPS), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1"}
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        hard = 65536 if hard == resource.RLIM_INFINITY else hard
        soft = min(hard, 1024 if raises_files else 65536)       # who cannot raise it itself gets it raised
        p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd,
                             env=base | env, start_new_session=True,
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
        loads.prefer(p.pid)
        return p

    def probe(self, ctx, path, limit=20):
        """Waits until a GET is answered with 200, three times in a row."""
        good, end = 0, time.monotonic() + limit
        while good < 3:
            try:
                if ctx.h2:
                    fine, why = b":status: 200" in loads.nghttp(scenarios.url(ctx, path), "-nv"), "no 200 by HTTP/2; "
                else:
                    fine, why = b" 200" in self.head(ctx, path), ""
                good = good + 1 if fine else 0
            except OSError as e:
                good, why = 0, f"{e}; "
            if good == 0:
                if time.monotonic() > end:
                    raise RuntimeError(f"not ready: {why}log: {self.log()}")
                time.sleep(0.1)

    def head(self, ctx, path):
        with socket.create_connection(("127.0.0.1", ctx.port), timeout=2) as s:
            if ctx.tls:
                s = ssl._create_unverified_context().wrap_socket(s, server_hostname="localhost")
            with s:
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{ctx.port}\r\nConnection: close\r\n\r\n".encode())
                return s.recv(64)

    def log(self):
        return (self.dir / "log.txt").read_text(errors="replace")[-400:]

    def pids(self):
        return proc.tree(self.ctx.roots)

    def stop(self):
        """Ends only what this object started: TERM to the front processes, KILL to what is left of their trees."""
        mine = {pid: proc.started(pid) for pid in proc.tree([p.pid for p in self.procs + self.aux])}
        for p in self.procs[::-1] + self.aux:
            p.send_signal(signal.SIGTERM)
        end = time.monotonic() + 3
        for p in self.procs + self.aux:
            try:
                p.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
        for pid, since in mine.items():
            if since and proc.started(pid) == since:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        for p in self.procs + self.aux:
            p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def measure(case, secs, round=0):
    run = None
    try:
        run = Running(case, round)
        time.sleep(0.2)
        idle = proc.memory(run.pids())
        if case.warm:
            case.load(run.ctx, 1)
        if case.before:
            run.ctx.before = case.before(run.ctx, case.secs or secs)
        before, kids0, all0 = run.pids(), os.times(), proc.machine()
        t0 = time.monotonic()
        r = case.load(run.ctx, case.secs or secs)
        wall = time.monotonic() - t0
        after, kids1, all1 = run.pids(), os.times(), proc.machine()
        ticks = sum(after.values()) - sum(before.values())
        load = kids1.children_user + kids1.children_system - kids0.children_user - kids0.children_system
        r["cpu_us"] = ticks / TICK * 1e6 / r["requests"] if r["requests"] else None
        r["cpu_cores"] = ticks / TICK / wall
        r["load_cores"] = load / wall
        # other work on the machine (compilers, kernel threads): the measure of the noise
        r["other_cores"] = max(0.0, (all1[0] - all0[0] - ticks) / TICK / wall - load / wall)
        r["steal_cores"] = (all1[1] - all0[1]) / TICK / wall
        r["memory_idle"], r["memory_after"], r["procs"] = idle, proc.memory(after), len(after)
        if case.around:
            without = (run.ctx.before["rps"] + case.before(run.ctx, case.secs or secs)["rps"]) / 2
            r |= {"rps_without": without, "kept": r["rps"] / without if without else None}
        return r
    except Exception as e:
        return {"requests": 0, "errors": 1, "failed": f"{type(e).__name__}: {e}"[:500]}
    finally:
        if run:
            run.stop()


# ------------------------------------------------------------------ are the answers right?
def fetch(ctx, method, path, body=b"", ctype=""):
    if ctx.h2:
        return 200, loads.nghttp(scenarios.url(ctx, path))
    cls = http.client.HTTPSConnection if ctx.tls else http.client.HTTPConnection
    kw = {"context": ssl._create_unverified_context()} if ctx.tls else {}
    c = cls("127.0.0.1", ctx.port, timeout=10, **kw)
    c.request(method, path, body or None, {"Content-Type": ctype} if ctype else {})
    r = c.getresponse()
    return r.status, r.read()


def smoke(names):
    """Starts every server of the scenarios once and checks the answers, and the load generators that check more than
    answers, briefly; no load to speak of, so no lock."""
    big = b"x" * (1 << 20)
    form = "application/x-www-form-urlencoded"
    asks = {"hello": [("GET", "/", b"", "", lambda b: b == b"Hello, World!")],
            "misc": [("POST", "/upload", big, "application/octet-stream", lambda b: b == b"%d" % len(big)),
                     ("GET", "/stream", b"", "", lambda b: len(b) == 160 * 65536),
                     ("GET", "/stream-cl", b"", "", lambda b: len(b) == 160 * 65536),
                     ("GET", "/slow", b"", "", lambda b: b == b"Hello, World!")],
            "": [("GET", "/json", b"", "", lambda b: json.loads(b) == {"message": "Hello, World!"}),
                 ("GET", "/item/42?q=abc", b"", "", lambda b: json.loads(b) == {"id": 42, "q": "abc"}),
                 ("POST", "/form", b"name=Ada&age=36", form, lambda b: json.loads(b) == {"name": "Ada", "age": "36"})]}
    world = lambda w: w.keys() == {"id", "randomNumber"} and all(1 <= n <= database.WORLDS for n in w.values())
    worlds = lambda b: len(json.loads(b)) == 20 and all(map(world, json.loads(b)))
    table = [("GET", "/json", b"", "", lambda b: json.loads(b) == {"message": "Hello, World!"}),
             ("GET", "/plaintext", b"", "", lambda b: b == b"Hello, World!"),
             ("GET", "/db", b"", "", lambda b: world(json.loads(b))),
             ("GET", "/queries?queries=20", b"", "", worlds),
             ("GET", "/updates?queries=20", b"", "", worlds),
             ("GET", "/fortunes", b"", "", lambda b: b.count(b"<tr><td>") == 13 and b"<script>" not in b
              and b"<td>0</td><td>Additional fortune" in b and "フレームワーク".encode() in b)]
    seen, bad = set(), 0
    for name in names or scenarios.ALL:
        for c in scenarios.ALL[name]()[1]:
            key = (c.server.name, c.app, c.tls, c.label, c.probe.endswith(".bin"), c.h2, c.trial and c.group)
            if key in seen or c.server.missing() or c.database and database.missing():
                continue
            seen.add(key)
            todo = table if c.database else asks.get(c.app.split(":")[0], asks[""])
            if c.probe.endswith(".bin"):
                todo = [("GET", f"/s/{f}.bin", b"", "", lambda b, f=f: b == (S.FILES / f"www/s/{f}.bin").read_bytes())
                        for f in ("1k", "16k", "1m")]
            elif c.probe == "/health":
                todo = [("GET", "/health", b"", "", lambda b: b == b"ok\n")]
            try:
                r = Running(c)
            except Exception as e:
                bad += 1
                print(f"BAD  {name} {c.label}: {e}", flush=True)
                continue
            try:
                for method, path, body, ctype, good in todo:
                    try:
                        status, got = fetch(r.ctx, method, path, body, ctype)
                        if status != 200 or not good(got):
                            bad += 1
                            print(f"BAD  {name} {c.label} {method} {path}: {status} {len(got)} {got[:80]!r}", flush=True)
                    except Exception as e:
                        bad += 1
                        print(f"BAD  {name} {c.label} {method} {path}: {type(e).__name__} {e} {r.log()[-200:]}", flush=True)
                if c.trial:
                    try:
                        got = c.trial(r.ctx)
                        wrong = got.get("failed") or got["errors"] or got["requests"] != got.get("still_open", got["requests"])
                    except Exception as e:
                        got, wrong = f"{type(e).__name__} {e}", True
                    if wrong:
                        bad += 1
                        print(f"BAD  {name} {c.label} [{c.group}] trial: {got} {r.log()[-200:]}", flush=True)
            finally:
                r.stop()
            print(f"done {name} {c.label} {c.app} {'tls' if c.tls else ''} {'h2' if c.h2 else ''} "
                  f"{f'[{c.group}]' if c.trial else ''}".rstrip(), flush=True)
    return 1 if bad else 0


# ------------------------------------------------------------------ running and reporting
def run(name, rounds, secs, only, group, lock, keep):
    ref, cases = scenarios.ALL[name]()
    skipped = {c.server.name: why for c in cases if (why := c.server.missing() or c.database and database.missing())}
    for server, why in skipped.items():
        print(f"skip {server}: {why}")
    cases = [c for c in cases if c.server.name not in skipped and (not only or c.label in only) and group in c.group]
    path = RESULTS / f"{name}.json"
    old = json.loads(path.read_text()) if keep and path.exists() else {"rounds": []}
    out = {"scenario": name, "ref": ref, "secs": max([c.secs for c in cases] + [0]) or secs,
           "skipped": skipped, "rounds": old["rounds"]}
    last = len(old["rounds"]) + rounds
    for n in range(len(old["rounds"]), last):
        rows = []
        out["rounds"].append({"at": time.strftime("%F %T"), "rows": rows})
        for c in cases:
            with open(lock, "w") as f:
                waited = time.monotonic()
                fcntl.flock(f, fcntl.LOCK_EX)
                waited = time.monotonic() - waited
                if waited > 5:
                    print(f"(waited {waited:.0f} s for {lock})")
                r = measure(c, secs, n)
                if r["requests"] and r["other_cores"] > 1.0:      # somebody else is busy: once more
                    time.sleep(2)
                    again = measure(c, secs, n)
                    if again["requests"] and again["other_cores"] < r["other_cores"]:
                        r = again
            r = {k: (round(x, 4) if isinstance(x, float) else x) for k, x in r.items()}
            rows.append({"group": c.group, "label": c.label, "workers": c.workers} | r)
            print(f"{name} {n + 1}/{last} [{c.group}] {c.label:24s} {r.get('rps', 0):9.0f} rps  "
                  f"cpu {r.get('cpu_us') or 0:7.1f} us  p50 {r.get('p50')} p99 {r.get('p99')}  err {r['errors']}  "
                  f"other {r.get('other_cores', 0):.2f} {r.get('failed') or r.get('note') or ''}", flush=True)
            path.write_text(json.dumps(out, indent=None, separators=(",", ":")))


MODULES = ("hello", "trivet_app", "falcon_app", "bottle_app", "starlette_app", "flask_app", "werkzeug_app", "django_app")
KINDS = ("hello", "json", "item", "form", "upload", "session")


def inproc(rounds, lock):
    """Frameworks without sockets; one process per framework and round."""
    out = {"scenario": "inproc", "rounds": []}
    env = {**os.environ, "PYTHONPATH": str(S.APPS.parents[1] / "python")}
    for _ in range(rounds):
        row = {}
        for module in MODULES:
            with open(lock, "w") as f:
                fcntl.flock(f, fcntl.LOCK_EX)
                all0, t0 = proc.machine(), time.monotonic()
                done = loads.sh([S.PY, str(S.APPS / "inproc.py"), module], 60, env=env)
                r = json.loads(done.stdout or "{}")
                if not r:
                    print(done.stderr, file=sys.stderr)
                    continue
                r["other_cores"] = round((proc.machine()[0] - all0[0]) / TICK / (time.monotonic() - t0) - 1, 2)
            row[module] = r
            print("inproc", module, r, flush=True)
        out["rounds"].append(row)
    (RESULTS / "inproc.json").write_text(json.dumps(out, separators=(",", ":")))


def report_inproc():
    data = json.loads((RESULTS / "inproc.json").read_text())["rounds"]
    print(f"### inproc ({len(data)} rounds; CPU us of a request, each the best of 7 runs)\n")
    print("| framework | hello | json | item | query + form | upload 1 MiB | session | import ms |")
    print("|---|---|---|---|---|---|---|---|")
    for m in MODULES:
        rows = [r[m] for r in data if m in r]
        us = lambda kind: [r["kinds"][kind]["best"] / 1000 for r in rows if kind in r["kinds"]]
        print("| " + " | ".join([m, *(spread(us(kind), "{:.2f}") for kind in KINDS),
                                 spread([r["import_ms"] for r in rows])]) + " |")
    print()


def spread(values, form="{:.0f}"):
    values = [x for x in values if x is not None]
    if not values:
        return "-"
    mid, lo, hi = (form.format(x) for x in (statistics.median(values), min(values), max(values)))
    return mid if lo == hi else f"{mid} ({lo}..{hi})"


def errors(row):
    return sum(row[k] for k in ("connect", "write", "status", "timeout")) if "connect" in row else row["errors"]


def dig(row, key):
    """row["a"]["b"] for "a.b", None where it is missing"""
    for part in key.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


EXTRA = {                                    # columns of some scenarios: title, form, scale
    "ideal_p99": ("ideal p99 ms", "{:.2f}", 1e-3), "idle_p50": ("idle p50 ms", "{:.2f}", 1e-3),
    "kept": ("throughput kept", "{:.2f}", 1), "cut": ("slow cut", "{:.0f}", 1),
    "memory_slow.front": ("MiB of the front beside them", "{:.1f}", 1),
    "memory_before.front": ("MiB of the front before", "{:.1f}", 1),
    "conn_kib": ("KiB/conn", "{:.2f}", 1), "conn_front_kib": ("KiB/conn, front", "{:.2f}", 1),
    "memfd_kib": ("of it memfd", "{:.2f}", 1), "kernel_slab_kib": ("kernel slab KiB/conn, both ends", "{:.1f}", 1),
    "kernel_tcp_kib": ("TCP buffers KiB/conn", "{:.2f}", 1), "still_open": ("still open", "{:.0f}", 1),
    "resumed": ("resumed", "{:.0f}", 1), "full": ("full", "{:.0f}", 1), "unlogged": ("not logged", "{:.0f}", 1),
}


def report(name):
    data = json.loads((RESULTS / f"{name}.json").read_text())
    groups = {}
    for i, rnd in enumerate(data["rounds"]):
        for row in rnd["rows"]:
            groups.setdefault(row["group"], {}).setdefault(row["label"], {})[i] = row
    print(f"### {name} ({len(data['rounds'])} rounds of {data['secs']} s)\n")
    for group, labels in groups.items():
        ref = data["ref"] if isinstance(data["ref"], str) else data["ref"].get(group, "nginx")
        base = labels.get(ref, {})
        extra = {k: x for k, x in EXTRA.items() if any(dig(r, k) is not None for by in labels.values() for r in by.values())}
        print(f"**{group}** - ratio to `{ref}` of the same round\n")
        print("| server | req/s | ratio | p50 ms | p99 ms | CPU us/req | CPU ratio | MiB idle > after | errors |"
              + "".join(f" {title} |" for title, _, _ in extra.values()) + " other cores |")
        print("|---|---|---|---|---|---|---|---|---|" + "---|" * len(extra) + "---|")

        def key(item):
            cpu = [r.get("cpu_us") for r in item[1].values() if r.get("cpu_us")]
            return statistics.median(cpu) if cpu else 1e9
        for label, by in sorted(labels.items(), key=key):
            rows = list(by.values())
            if all(r.get("failed") for r in rows):
                print(f"| {label} | failed: {rows[0]['failed'][:60]!r} |")
                continue
            col = lambda k: [r.get(k) for r in rows]
            ratio = lambda k: [r[k] / base[i][k] for i, r in by.items()
                               if i in base and r.get(k) and base[i].get(k)]
            ms = lambda k: [x / 1000 for x in col(k) if x is not None]
            med = lambda k: statistics.median([x for x in (dig(r, k) for r in rows) if x is not None] or [0])
            cells = [label, spread(col("rps")), spread(ratio("rps"), "{:.2f}"), spread([statistics.median(ms("p50"))]
                     if ms("p50") else [], "{:.2f}"), spread(ms("p99"), "{:.2f}"), spread(col("cpu_us"), "{:.1f}"),
                     spread(ratio("cpu_us"), "{:.2f}"), f"{med('memory_idle.all'):.0f} > {med('memory_after.all'):.0f}",
                     str(sum(errors(r) for r in rows)) + (f" (+{sum(x or 0 for x in col('read'))} closed)" if any(col("read")) else "")]
            for k, (_, form, scale) in extra.items():
                cells.append(spread([x * scale for x in (dig(r, k) for r in rows) if x is not None], form))
            cells.append(f"{max(x or 0 for x in col('other_cores')):.2f}")
            print("| " + " | ".join(cells) + " |")
        print()


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("names", nargs="*", help=", ".join(scenarios.ALL) + ", inproc; `claims`: those that the claims need")
    a.add_argument("--rounds", type=int, default=0, help="5, mixed 20")
    a.add_argument("--secs", type=int, default=3)
    a.add_argument("--only", default="", help="labels, comma separated")
    a.add_argument("--group", default="", help="only the groups whose name contains this")
    a.add_argument("--keep", action="store_true", help="add the rounds to the stored ones")
    a.add_argument("--lock", default=str(S.CACHE / "lock"))
    a.add_argument("--report", action="store_true")
    a.add_argument("--check-claims", action="store_true", help="the claims against the stored results")
    a.add_argument("--subject", default="trivet", help="whose claims: `trivet` as shipped or `trivet-log`")
    a.add_argument("--check", action="store_true")
    a.add_argument("--smoke", action="store_true")
    o = a.parse_args()
    names = [n for name in o.names for n in (claims.SCENARIOS if name == "claims" else [name])]
    if unknown := [n for n in names if n not in scenarios.ALL and n != "inproc"]:
        a.error(f"no such scenario: {', '.join(unknown)}")
    stored = [n for n in [*scenarios.ALL, "inproc"] if (RESULTS / f"{n}.json").exists()]
    if o.check:
        for s in S.WSGI + S.ASGI + S.STATIC + S.PROXIES + [S.ROBYN]:
            print(f"{s.name:24s} {s.missing() or 'ok'}")
        for tool in ("wrk", "h2load", "nghttp", "ab", "openssl"):
            print(f"{tool:24s} {'ok' if shutil.which(tool) else f'not found: {tool}'}")
        print(f"{'handshakes':24s} {S.no_handshakes() or 'ok'}")
        return 0
    if o.smoke:
        S.prepare()
        return smoke(names)
    if not o.report and not o.check_claims:
        if not names:
            a.error("which scenarios?")
        S.prepare()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))     # so that the servers are stopped
        RESULTS.mkdir(exist_ok=True)
        for name in names:
            rounds = o.rounds or (20 if name == "mixed" else 5)
            if name == "inproc":
                inproc(rounds, o.lock)
            else:
                run(name, rounds, o.secs, set(filter(None, o.only.split(","))), o.group, o.lock, o.keep)
    if not o.check_claims:
        for name in names or stored:
            report_inproc() if name == "inproc" else report(name)
    if o.report:
        return 0
    return claims.check(RESULTS, names or claims.SCENARIOS, o.subject)


if __name__ == "__main__":
    sys.exit(main())
