"""The claims, and whether the stored results bear them out.

A ratio is taken within each round; what counts is the median over the rounds. `mixed` compares medians and 90th
percentiles over its seeds. Rows with errors are named, never left out."""
import json
import statistics
from dataclasses import dataclass, field

SCENARIOS = ["hello", "hello12", "hello1", "flask", "body", "churn", "mixed", "slow", "idle", "static", "tls", "h2", "framework", "techempower", "inproc"]
MORE_SLOTS = ("granian",)              # in `mixed` for the record: they may serve more than four requests at a time


@dataclass
class Finding:
    claim: str
    limit: str
    values: list = field(default_factory=list)       # one per round; the median counts
    holds: object = None                             # None: not measured
    note: str = ""
    form: str = "{:.2f}"
    rounds: int = 0                                  # where it is not the number of values

    def row(self):
        verdict = {None: "not measured", True: "holds", False: "DOES NOT HOLD"}[self.holds]
        got = "-"
        if self.values:
            mid, lo, hi = (self.form.format(f(self.values)) for f in (statistics.median, min, max))
            got = mid if lo == hi else f"{mid} ({lo}..{hi})"
        return f"| {self.claim} | {self.limit} | {got} | {self.rounds or len(self.values)} | {verdict} | {self.note} |"


def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


class Rounds:
    """The stored rounds of one scenario."""

    def __init__(self, folder, name):
        path = folder / f"{name}.json"
        self.rounds = json.loads(path.read_text())["rounds"] if path.exists() else []

    def labels(self, group):
        return list(dict.fromkeys(r["label"] for n in self.rounds for r in n["rows"] if r["group"] == group))

    def groups(self):
        return list(dict.fromkeys(r["group"] for n in self.rounds for r in n["rows"]))

    def rows(self, group, label):
        """round -> row, failed ones left out"""
        return {i: r for i, n in enumerate(self.rounds) for r in n["rows"]
                if r["group"] == group and r["label"] == label and not r.get("failed")}

    def ratios(self, group, key, a, b):
        mine, theirs = self.rows(group, a), self.rows(group, b)
        return [mine[i][key] / theirs[i][key] for i in mine if i in theirs and mine[i].get(key) and theirs[i].get(key)]

    def trouble(self, group, label):
        rows = [r for n in self.rounds for r in n["rows"] if r["group"] == group and r["label"] == label]
        failed = sum(bool(r.get("failed")) for r in rows)
        wrong = sum(r.get("errors") or 0 for r in rows if not r.get("failed"))
        return ", ".join([f"{failed} rounds failed"] * bool(failed) + [f"{wrong} errors"] * bool(wrong))


def check(folder, names, subject):
    """Prints the table for the scenarios in names; 1 if a measured claim does not hold."""
    found = []
    for name in names:
        if name in FINDERS:
            found += FINDERS[name](Rounds(folder, name), subject)
    print(f"### claims ({subject}); ratios are medians of per-round ratios\n")
    print("| claim | limit | measured (min..max) | rounds | verdict | note |\n|---|---|---|---|---|---|")
    for f in found:
        print(f.row())
    bad, missing = sum(f.holds is False for f in found), sum(f.holds is None for f in found)
    print(f"\n{len(found)} claims: {len(found) - bad - missing} hold, {bad} do not, {missing} not measured")
    return 1 if bad else 0


WHAT = {"cpu_us": "CPU per request", "rps": "throughput", "p50": "p50"}


def versus(rounds, name, group, key, subject, peer, limit):
    values = rounds.ratios(group, key, subject, peer)
    trouble = rounds.trouble(group, subject)
    return Finding(f"{name}, {group}: {WHAT[key]} / {peer}", f"≤ {limit}", values,
                   statistics.median(values) <= limit and not trouble if values else False if trouble else None, trouble)


def versus_best(rounds, name, group, key, subject, limit):
    """Against whichever peer makes the ratio worst."""
    high = key == "rps"
    by = {p: rounds.ratios(group, key, subject, p) for p in rounds.labels(group) if not p.startswith("trivet")}
    by = {p: v for p, v in by.items() if v}
    claim, bound = f"{name}, {group}: {WHAT[key]} / the best peer's", f"{'≥' if high else '≤'} {limit}"
    if not by:
        trouble = rounds.trouble(group, subject)
        return Finding(claim, bound, [], False if trouble else None, trouble)
    peer = (min if high else max)(by, key=lambda p: statistics.median(by[p]))
    mid, trouble = statistics.median(by[peer]), rounds.trouble(group, subject)
    return Finding(claim, bound, by[peer], (mid >= limit if high else mid <= limit) and not trouble,
                   "; ".join(filter(None, [f"best: {peer}", trouble])))


def hello(r, me):
    out = []
    for group in ("1 worker", "2 workers"):
        out += [versus(r, "hello", group, "cpu_us", me, peer, limit) for peer, limit in (
            ("bjoern", 0.9), ("fastwsgi", 0.9), ("granian-bt1", 0.65), ("nginx+uwsgi", 0.25))]
        out.append(versus_best(r, "hello", group, "rps", me, 0.95))
    return out


def hello12(r, me):
    return [versus(r, "hello, 12 headers", group, "cpu_us", me, peer, 0.7)
            for group in ("1 worker", "2 workers") for peer in ("bjoern", "fastwsgi")]


def hello1(r, me):
    return [versus(r, "hello, 1 connection", "1 worker", key, me, "bjoern", 1.5) for key in ("cpu_us", "p50")]


def flask(r, me):
    return [versus_best(r, "flask", group, "cpu_us", me, 1.0) for group in r.groups() or ["/json"]]


def body(r, me):
    def line(group, peer, limit, who=me):
        return versus(r, "bodies" if who == me else f"bodies, {who}", group, "cpu_us", who, peer, limit)
    out = [line("upload 100 KiB", "fastwsgi", 1.2), line("upload 10 MiB", "nginx+uwsgi", 0.3)]
    for granian in ("granian", "granian-bt1"):
        out += [line("upload 10 MiB", granian, 2.0), line("upload 10 MiB", granian, 1.1, "trivet-stream")]
    out += [line(group, peer, 1.0) for group in ("stream 10 MiB, no length", "stream 10 MiB, Content-Length")
            for peer in ("granian", "granian-bt1", "bjoern")]
    return out


def churn(r, me):
    group = "http, WSGI hello, 2 workers"
    return [versus(r, "new connections", group, "cpu_us", me, "bjoern", 1.15),
            versus(r, "new connections", group, "cpu_us", me, "fastwsgi", 0.6)]


def mixed(r, me):
    group = "400 req/s"
    rows = {i: x for i, x in r.rows(group, me).items() if x.get("p99")}
    trouble = r.trouble(group, me)
    few = "fewer than 20 seeds" if 0 < len(rows) < 20 else ""
    over = [(x["p99"] - x["ideal_p99"]) / 1000 for x in rows.values()]
    out = []
    for title, pick in (("median", statistics.median), ("90th percentile", lambda v: percentile(v, 0.9))):
        def finding(claim, limit, value, bound):
            note = "; ".join(filter(None, [few, trouble]))
            return Finding(f"mixed: {title} over seeds of the fast p99, {claim}", limit, [] if value is None else [value],
                           None if value is None else value <= bound and not trouble, note)
        out.append(finding("ms above the ideal queue's", "≤ 0.5", pick(over) if over else None, 0.5))
        mine = pick([x["p99"] for x in rows.values()]) if rows else None
        peers = [p for p in r.labels(group) if not p.startswith("trivet") and p not in MORE_SLOTS] or ["any peer"]
        for peer in peers:
            theirs = [x["p99"] for i, x in r.rows(group, peer).items() if i in rows and x.get("p99")]
            bound = 0.1 if peer == "bjoern" else 1.0
            out.append(finding(f"/ {peer}", f"≤ {bound}", mine / pick(theirs) if mine and theirs else None, bound))
    for f in out:
        f.rounds = len(rows)
    return out


def slow(r, me):
    out = []
    for group in ("500 slow heads", "500 slow heads, 500 slow bodies"):
        rows = list(r.rows(group, me).values())
        kept, trouble = [x["kept"] for x in rows if x.get("kept") is not None], r.trouble(group, me)
        out.append(Finding(f"{group}: throughput kept", "≥ 0.85", kept,
                           statistics.median(kept) >= 0.85 and not trouble if kept else False if trouble else None, trouble))
        grown = [x["memory_slow"]["front"] - x["memory_idle"]["front"] for x in rows if "memory_slow" in x]
        out.append(Finding(f"{group}: MiB that supervisor and edge grow by", "bounded (≤ 64)", grown,
                           statistics.median(grown) <= 64 if grown else None))
    return out


def each_idle(r, me, group, kind, limit, note):
    """Memory for each of 10,000 connections."""
    rows, trouble = list(r.rows(group, me).values()), r.trouble(group, me)
    if lost := sum(x["requests"] - x["still_open"] for x in rows):
        trouble = ", ".join(filter(None, [trouble, f"{lost} connections did not stay open"]))
    each = [x["conn_front_kib"] for x in rows if x["requests"] == 10_000]
    return Finding(f"idle: KiB that supervisor and edge grow by for each of 10,000 {kind}", f"≤ {limit}", each,
                   statistics.median(each) <= limit and not trouble if each else False if trouble else None,
                   "; ".join(filter(None, [note, trouble])))


def idle(r, me):
    group = "10,000 idle connections"
    rows = r.rows(group, me).values()
    start = [x["memory_idle"]["front"] for x in rows]
    kernel = [x["kernel_slab_kib"] + x["kernel_tcp_kib"] for x in rows]
    note = f"kernel, both ends and the client's descriptors: {statistics.median(kernel):.1f} KiB" if kernel else ""
    return [Finding("idle: MiB of supervisor and edge together (PSS and memfds)", "≤ 12", start,
                    statistics.median(start) <= 12 if start else None),
            each_idle(r, me, group, "connections", 8, note)]


def static(r, me):
    return [versus(r, "static", f"{size}, http", "cpu_us", me, peer, limit) for size, peer, limit in (
        ("1k", "nginx", 0.65), ("1k", "nginx-filecache", 0.85), ("16k", "nginx", 0.65), ("16k", "nginx-filecache", 0.85),
        ("1m", "nginx", 0.9), ("1m", "caddy", 1.0))] + [
        versus(r, "static", f"{size}, https h1", "cpu_us", me, peer, limit) for size, peer, limit in (
            ("1k", "nginx", 0.75), ("1k", "nginx-filecache", 0.9), ("1m", "nginx", 1.03))] + [
        versus(r, "static", "1k, http, access log on", "cpu_us", me, "nginx", 0.65)]


def tls(r, me):
    idle_group = "10,000 idle TLS connections"
    theirs = [x["conn_front_kib"] for x in r.rows(idle_group, "nginx").values() if x["requests"] == 10_000]
    note = f"nginx: {statistics.median(theirs):.1f} KiB" if theirs else ""
    return [versus(r, "TLS 1.3", group, "cpu_us", me, "nginx", limit) for group, limit in (
        ("full handshakes, P-256", 0.65), ("full handshakes, RSA-2048", 1.05), ("resumed handshakes, P-256", 1.0))] + [
        each_idle(r, me, idle_group, "TLS connections", 24, note)]


def h2(r, me):
    return [versus(r, "HTTP/2", group, "cpu_us", me, peer, limit) for group in ("1k, https h2", "1k, http h2")
            for peer, limit in (("nginx", 0.65), ("nginx-filecache", 0.9))]


def framework(r, me):
    """JSON, path and query, a form: a third each."""
    return [versus(r, "trivet.App", "1 worker", "cpu_us", f"trivet ({me})", peer, limit)
            for peer, limit in (("falcon (bjoern)", 0.5), ("bottle (bjoern)", 0.35), ("robyn", 0.2))]


def techempower(r, me):
    """On MariaDB, the CPU of the database's own processes left out."""
    return [versus(r, "TechEmpower", group, "cpu_us", me, peer, limit) for group in ("/db", "/updates")
            for peer, limit in (("flask, sqlalchemy, pymysql (gunicorn)", 0.3), ("falcon, pymysql (bjoern)", 0.6))]


def inproc(r, me):
    """In process, against Falcon, which is the fastest of the peers at most of it."""
    def best(row, module, kind):
        return row.get(module, {}).get("kinds", {}).get(kind, {}).get("best")

    out = []
    for kind, words, limit in (("hello", "hello", 0.2), ("item", "JSON with an int from the path", 0.2),
                               ("form", "query and form", 0.3), ("upload", "1 MiB upload", 0.35),
                               ("session", "signed session / Falcon's unsigned cookie", 0.5)):
        pairs = [(best(row, "trivet_app", kind), best(row, "falcon_app", kind)) for row in r.rounds]
        values = [mine / theirs for mine, theirs in pairs if mine and theirs]
        out.append(Finding(f"in process, {words}: CPU / falcon", f"≤ {limit}", values,
                           statistics.median(values) <= limit if values else None))
    return out


FINDERS = {f.__name__: f for f in (hello, hello12, hello1, flask, body, churn, mixed, slow, idle, static, tls, h2, framework, techempower, inproc)}
