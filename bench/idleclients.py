"""Idle keep-alive clients: opens N connections, has one GET / answered on each, and holds them all.
usage: idleclients.py PORT N. Prints `ready OPEN` when the last is answered, waits for a line on stdin (or 120 s), then
prints how many are still open."""
import resource
import select
import socket
import sys

port, n = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
conns = []
for _ in range(n):
    try:
        s = socket.create_connection(("127.0.0.1", port), timeout=5)
        s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = b""
        while not got.endswith(b"Hello, World!") and not got.endswith(b"\r\n0\r\n\r\n"):
            data = s.recv(4096)
            if not data:
                raise ConnectionResetError
            got += data
        conns.append(s)
    except OSError as e:
        print(f"after {len(conns)}: {e}", file=sys.stderr)
        break
print("ready", len(conns), flush=True)
select.select([sys.stdin], [], [], 120)
still = 0
for s in conns:
    s.setblocking(False)
    try:
        still += s.recv(1) != b""
    except BlockingIOError:
        still += 1
    except OSError:
        pass
print(still)
