"""Slow clients: N connections, each sending one byte of a request that never ends per INTERVAL seconds; one that the
server closes is opened again. KIND says which part is dribbled: `heads` (of a GET) or `bodies` (of a POST of 1 MiB to
/upload, whose head and first KiB come at once). usage: slowclients.py PORT N INTERVAL KIND
Says `ready` when all have been sent their first bytes, or after 6 s, runs until SIGTERM or 120 s, then prints how many connections the
server closed."""
import random
import resource
import signal
import socket
import sys
import time

port, n, interval, kind = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
FIRST = {"heads": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
         "bodies": b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
                   b"Content-Length: 1048576\r\n\r\n" + b"a" * 1024}[kind]


def opened(delay):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(("127.0.0.1", port))
    return [time.monotonic() + delay, s, False]     # next send, socket, first part sent


conns = [opened(0.2 + random.random() * min(interval, 2)) for _ in range(n)]
closed = 0
ready = False
end = time.monotonic() + 120
while not stop and time.monotonic() < end:
    now = time.monotonic()
    for i, c in enumerate(conns):
        if c[0] <= now:
            c[0] = now + interval
            try:
                if c[2] and not c[1].recv(65536, socket.MSG_DONTWAIT | socket.MSG_PEEK):
                    raise ConnectionResetError       # the server has closed it
            except BlockingIOError:
                pass
            except OSError:
                closed += 1
                c[1].close()
                conns[i] = opened(0.2)
                continue
            try:
                c[1].send(b"a" if c[2] else FIRST)
                c[2] = True
            except BlockingIOError:
                pass
            except OSError:
                closed += 1
                c[1].close()
                conns[i] = opened(0.2)
    if not ready and (now > end - 114 or all(c[2] for c in conns)):
        ready = True
        print("ready", flush=True)
    time.sleep(0.02)
print(closed)
