"""Load generators. Each function runs one bounded load against 127.0.0.1 and returns a dict with at least
`requests` and `errors`; `rps`, `p50`, `p99` (microseconds) where the tool gives them."""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import openloop as ol
import proc
import servers as S

HERE = Path(__file__).resolve().parent

DONE = r"""
done = function(s, l, r)
  local e = s.errors
  io.write(string.format('\nJSON{"requests":%d,"secs":%.4f,"bytes":%d,"connect":%d,"read":%d,"write":%d,' ..
    '"status":%d,"timeout":%d,"p50":%d,"p99":%d,"p999":%d,"max":%d}\n', s.requests, s.duration / 1e6, s.bytes,
    e.connect, e.read, e.write, e.status, e.timeout, l:percentile(50), l:percentile(99), l:percentile(99.9), l.max))
end
"""


def prefer(pid):
    """With the kernel's autogroups, `nice` has no effect between process groups: a compiler at `nice 19` in
    another terminal takes as much CPU as we do. So raise the weight of the groups started here (these only)."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text("-15")
    except OSError:
        pass


def sh(argv, limit, env=None):
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=env)
    prefer(p.pid)
    try:
        out, err = p.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        p.kill()
        out, err = p.communicate()
    return subprocess.CompletedProcess(argv, p.returncode, out, err)


def wrk(url, secs, conns=64, lua="", threads=1, timeout=2):
    """Closed loop, as fast as it goes."""
    secs = max(1, round(secs))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as f:
        f.write(lua + DONE)
        f.flush()
        out = sh(["wrk", f"-t{threads}", f"-c{conns}", f"-d{secs}s", f"--timeout={timeout}s", "-s", f.name, url],
                 secs + 30).stdout
    found = re.search(r"^JSON(.*)$", out, re.M)
    if not found:
        return {"requests": 0, "errors": 1, "note": out[-300:]}
    d = json.loads(found[1])
    d["rps"] = d["requests"] / d["secs"]
    # `read`: the server closed a connection that its answer had promised to keep; wrk opens another and goes on
    d["errors"] = d["connect"] + d["write"] + d["status"] + d["timeout"]
    return d


def h2load(url, secs, conns=32, streams=1, h1=False, rps=0):
    """HTTP/2, over http:// by prior knowledge (or --h1). rps>0: fixed rate over all connections. Percentiles come from
    the request log."""
    secs = max(1, round(secs))
    log = tempfile.mktemp(prefix="h2load-")
    argv = ["h2load", "-t1", f"-c{conns}", f"-m{streams}", f"-D{secs}", f"--log-file={log}"]
    argv += ["--h1"] * h1 + ([f"--rps={rps / conns}"] if rps else []) + [url]
    out = sh(argv, secs + 30).stdout
    done = re.search(r"finished in .*?, ([\d.]+) req/s", out)
    reqs = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", out)
    times, bad = [], 0
    try:
        with open(log) as f:
            for line in f:
                _, status, us = line.split()
                times.append(int(us))
                bad += not status.startswith("2")
        os.unlink(log)
    except OSError:
        pass
    spoken = (re.search(r"^Application protocol: (\S+)", out, re.M) or ["", ""])[1]
    if not h1 and spoken not in ("h2", "h2c"):          # it takes http/1.1 from a server that offers nothing else
        return {"requests": 0, "errors": 1, "failed": f"no HTTP/2: {spoken or out[-300:]}"}
    if not done or not times:
        return {"requests": 0, "errors": 1, "note": out[-300:]}
    times.sort()
    return {"requests": len(times), "rps": float(done[1]), "errors": int(reqs[4]) + bad,
            "p50": times[len(times) // 2], "p99": times[int(len(times) * .99)]}


def ab(url, secs, conns=32):
    """A new connection and, for https, a full TLS handshake for every request."""
    out = sh(["ab", "-q", "-r", "-f", "TLS1.3", "-n", "1000000", "-t", str(max(1, round(secs))), "-c", str(conns), url], secs + 30).stdout
    num = lambda what: float((re.search(rf"{what}:?\s+([\d.]+)", out) or [0, 0])[1])
    failed = int(num("Failed requests")) + int(num("Non-2xx responses"))
    proto = (re.search(r"SSL/TLS Protocol:\s+(.*)", out) or ["", ""])[1]
    if (url.startswith("https") and not proto) or not num("HTML transferred"):    # ab -r counts failed handshakes as done
        return {"requests": 0, "errors": 1, "note": "no TLS or no body: " + out[-200:]}
    return {"requests": int(num("Complete requests")), "rps": num("Requests per second"), "errors": failed,
            "p50": num(r"\s+50%") * 1000, "p99": num(r"\s+99%") * 1000,
            "note": proto}


def nghttp(url, *extra, limit=10):
    """What one GET by HTTP/2 prints: the body, or with -nv the frames."""
    p = subprocess.run(["nghttp", "-t", str(limit), *extra, url], capture_output=True, timeout=limit + 5)
    if not p.stdout:
        raise OSError(f"no HTTP/2: {p.stderr.decode(errors='replace').strip()[-200:] or 'no answer'}")
    return p.stdout


KEYS = {"p256": "EC-256", "rsa2048": "RSA-2048"}
WANTED = {"version": "TLSv1.3", "group": "X25519", "suite": "TLS_AES_128_GCM_SHA256"}


def handshakes(c, secs, path, resume=False, conns=16, count=0):
    """A new connection, a TLS 1.3 handshake, one GET, a close; all of them full, or all resumed."""
    if why := S.no_handshakes():
        return {"requests": 0, "errors": 1, "failed": why}
    out = sh([str(S.HANDSHAKES), *["--resume"] * resume, f"--conns={conns}", "--threads=2", f"--seconds={secs}",
              f"--count={count}", f"--group={WANTED['group']}", f"--suite={WANTED['suite']}", str(c.port), path], secs + 30)
    if not out.stdout.strip():
        return {"requests": 0, "errors": 1, "note": out.stderr[-300:]}
    d = json.loads(out.stdout)
    wanted = WANTED | {"key": KEYS[c.key_type]}
    odd = [f"{k} {d[k]} instead of {x}" for k, x in wanted.items() if d[k] != x]
    unlike = d["full" if resume else "resumed"]
    notes = [*odd, *[f"{unlike} were {'not ' * resume}resumed"] * bool(unlike), *filter(None, [d["error"]])]
    return {"requests": d["done"], "rps": d["done"] / d["secs"], "p50": d["p50"], "p99": d["p99"],
            "errors": d["failed"] + d["late"] + unlike + len(odd) + (not d["done"]),
            "resumed": d["resumed"], "full": d["full"], "primed": d["primed"],
            "note": "; ".join(notes) or " ".join(d[k] for k in wanted)}


def lines(path):
    try:
        with open(path, "rb") as f:
            return sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b""))
    except OSError:
        return 0


def logged(c, load):
    """Runs load() and counts the lines that the access log has grown by: a request without one is an error."""
    before, r, end = lines(c.log), load(), time.monotonic() + 3
    while (missing := r["requests"] + before - lines(c.log)) > 0 and time.monotonic() < end:
        time.sleep(0.1)
    r["unlogged"] = max(0, missing)
    r["errors"] += r["unlogged"]
    return r


def openloop(port, secs, rate, conns=32, share=0.0, seed=7):
    out = sh([sys.executable, str(HERE / "openloop.py"), str(port), str(rate), str(secs), str(conns), str(share),
              str(seed)], secs + 30)
    if not out.stdout.strip():
        return {"requests": 0, "errors": 1, "note": out.stderr[-300:]}
    d = json.loads(out.stdout)
    f = d["fast"]
    return {"requests": f["n"] + d["slow"]["n"], "rps": (f["n"] + d["slow"]["n"]) / secs,
            "errors": d["errors"] + d["undone"], "p50": f.get("p50"), "p99": f.get("p99"), "p999": f.get("p999"),
            "slow": d["slow"], "reconnects": d["reconnects"]}


def mixed(c, secs, rate, share, slots):
    """One seed of the open loop, beside a simulated ideal queue with as many servers on the same arrivals. Its service
    time of a fast request is the median that this server had when idle (c.before), or the run's own where that is less
    (a machine that never sleeps answers sooner); of a slow one 20 ms flat."""
    seed = 1000 + c.round
    r = openloop(c.port, secs, rate, 32, share, seed)
    fast = min(c.before.get("p50") or 0, r.get("p50") or 0) / 1e6
    best = ol.ideal(ol.arrivals(rate, secs, share, seed), slots, fast, 0.020)
    return r | {"seed": seed, "idle_p50": c.before.get("p50"), "ideal_p50": best["p50"], "ideal_p99": best["p99"]}


class SlowClients:
    """While it is entered, N clients dribble on the server; `cut` says how many of them the server cut off."""

    def __init__(self, port, n, interval, kind):
        self.argv = [sys.executable, str(HERE / "slowclients.py"), str(port), str(n), str(interval), kind]

    def __enter__(self):
        self.p = subprocess.Popen(self.argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
        prefer(self.p.pid)
        self.p.stdout.readline()               # ready: every one of them has sent its first bytes
        return self

    def __exit__(self, *_):
        self.p.send_signal(signal.SIGTERM)
        out = self.p.communicate(timeout=10)[0]
        self.cut = int(out.strip() or -1)


def beside_slow(c, kinds, load):
    """Runs load() while 500 slow clients of each kind sit on the server; adds how many of them the server cut off."""
    with contextlib.ExitStack() as stack:
        groups = [stack.enter_context(SlowClients(c.port, 500, 2, kind)) for kind in kinds]
        result = load()
        result["memory_slow"] = proc.memory(proc.tree(c.roots))
    result["cut"] = sum(g.cut for g in groups)
    return result


def idle(c, n, path="/"):
    """N keep-alive connections, one request each, then silence: what they cost while they are silent."""
    slab0, tcp0 = proc.kernel_bytes()
    m0 = proc.memory(proc.tree(c.roots))
    p = subprocess.Popen([sys.executable, str(HERE / "idleclients.py"), str(c.port), str(n), path] + ["tls"] * c.tls,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    prefer(p.pid)
    try:
        done = int(p.stdout.readline().split()[1])
        m1 = proc.memory(proc.tree(c.roots))
        slab1, tcp1 = proc.kernel_bytes()
    finally:
        out, err = p.communicate("\n", timeout=60)
    kib = lambda k: (m1[k] - m0[k]) * 1024 / max(done, 1)
    return {"requests": done, "errors": n - done, "note": err.strip()[:100], "still_open": int(out.strip() or 0),
            "conn_kib": kib("all"), "conn_front_kib": kib("front"), "memfd_kib": kib("memfd"),
            "memory_before": m0, "memory_with": m1,
            # of the whole machine: both ends of each connection and the client's descriptors too
            "kernel_slab_kib": (slab1 - slab0) / 1024 / max(done, 1), "kernel_tcp_kib": (tcp1 - tcp0) / 1024 / max(done, 1)}
