"""Open-loop HTTP/1.1 client: Poisson arrivals at a fixed rate, latency counted from the time a request was due (so no
coordinated omission). usage: openloop.py PORT RATE SECONDS CONNS SLOW_SHARE SEED
SLOW_SHARE of the requests go to /slow, the others to /. Prints JSON, latencies in microseconds."""
import heapq
import json
import random
import select
import socket
import sys
import time
from collections import deque

FAST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"


def arrivals(rate, secs, share, seed):
    """[(due time in seconds, slow?)]: the same list for the same arguments"""
    rnd = random.Random(seed)
    due, at = [], 0.05
    while at < secs:
        due.append((at, rnd.random() < share))
        at += rnd.expovariate(rate)
    return due


def stats(values):
    if not values:
        return {"n": 0}
    values = sorted(values)
    pick = lambda q: round(values[min(len(values) - 1, int(q * len(values)))] * 1e6)
    return {"n": len(values), "p50": pick(.5), "p90": pick(.9), "p99": pick(.99), "p999": pick(.999),
            "max": round(values[-1] * 1e6)}


def ideal(due, servers, fast_secs, slow_secs):
    """Latencies of the fast requests in a perfect queue: first in, first out, any free server, no cost of its own."""
    free = [0.0] * servers
    fast = []
    for at, slow in due:
        start = max(at, heapq.heappop(free))
        end = start + (slow_secs if slow else fast_secs)
        heapq.heappush(free, end)
        if not slow:
            fast.append(end - at)
    return stats(fast)


def main():
    port, rate, secs, conns, share, seed = (float(a) for a in sys.argv[1:7])
    port, conns = int(port), int(conns)
    due = deque(arrivals(rate, secs, share, int(seed)))
    total = len(due)
    free = deque(range(conns))          # slots; each may hold an open connection
    socks = [None] * conns
    busy = {}                           # socket -> [slot, due time, slow?, buffer]
    lat = {False: [], True: []}
    count = {"errors": 0, "reconnects": 0}

    def send(slot, when, slow):
        s = socks[slot]
        if s is None:
            s = socks[slot] = socket.create_connection(("127.0.0.1", port), timeout=2)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.settimeout(2)
            count["reconnects"] += 1
        s.sendall(SLOW if slow else FAST)
        busy[s] = [slot, when, slow, b""]

    def finish(s, ok, close):
        slot, when, slow, _ = busy.pop(s)
        if ok:
            lat[slow].append(time.perf_counter() - when)
        else:
            count["errors"] += 1
        if close:
            s.close()
            socks[slot] = None
        free.append(slot)

    for i in range(conns):
        try:
            socks[i] = socket.create_connection(("127.0.0.1", port), timeout=2)
            socks[i].settimeout(2)
        except OSError:
            socks[i] = None
    zero = time.perf_counter()
    while (due or busy) and time.perf_counter() - zero < secs + 3:
        now = time.perf_counter()
        while due and free and zero + due[0][0] <= now:
            when, slow = due.popleft()
            slot = free.popleft()
            for last in (False, True):           # a kept connection may have been closed under us: once more
                try:
                    send(slot, zero + when, slow)
                    break
                except OSError:
                    if socks[slot]:
                        socks[slot].close()
                    socks[slot] = None
                    if last:
                        count["errors"] += 1
                        free.append(slot)
        wait = 0.5
        if due and free:
            wait = max(0.0, zero + due[0][0] - time.perf_counter())
        if not busy:
            time.sleep(min(wait, 0.5))
            continue
        for s in select.select(list(busy), [], [], wait)[0]:
            try:
                data = s.recv(65536)
            except OSError:
                data = b""
            entry = busy[s]
            entry[3] += data
            head, sep, body = entry[3].partition(b"\r\n\r\n")
            if not data:
                if not entry[3] and socks[entry[0]]:      # closed idle connection: send again on a new one
                    slot, when, slow, _ = busy.pop(s)
                    s.close()
                    socks[slot] = None
                    try:
                        send(slot, when, slow)
                    except OSError:
                        count["errors"] += 1
                        free.append(slot)
                else:
                    finish(s, bool(sep), True)
                continue
            if not sep:
                continue
            low = head.lower()
            mark = low.find(b"content-length:")
            if mark < 0 or len(body) >= int(low[mark + 15:].split(b"\r\n", 1)[0]):
                if mark < 0 and b"chunked" in low and not body.endswith(b"0\r\n\r\n"):
                    continue
                finish(s, b" 200" in head[:13], b"connection: close" in low or head.startswith(b"HTTP/1.0"))
    print(json.dumps({"due": total, "undone": len(due) + len(busy), "fast": stats(lat[False]), "slow": stats(lat[True])}
                     | count))


if __name__ == "__main__":
    main()
