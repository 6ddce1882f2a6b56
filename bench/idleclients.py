"""Idle keep-alive clients: opens N connections, has one GET answered on each, and holds them all.
usage: idleclients.py PORT N [PATH [tls]]. Prints `ready OPEN` when the last is answered, waits for a line on stdin (or
120 s), then prints how many are still open."""
import re
import resource
import select
import socket
import ssl
import sys

port, n = int(sys.argv[1]), int(sys.argv[2])
path = sys.argv[3] if len(sys.argv) > 3 else "/"
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
tls = None
if "tls" in sys.argv[4:]:
    tls = ssl._create_unverified_context()
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)


def whole(got):
    head, end, body = got.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    return bool(end) and (len(body) >= int(length[1]) if length else got.endswith(b"\r\n0\r\n\r\n"))


conns = []
for _ in range(n):
    try:
        s = socket.create_connection(("127.0.0.1", port), timeout=5)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            s = tls.wrap_socket(s, server_hostname="localhost")
        s.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        got = b""
        while not whole(got):
            data = s.recv(4096)
            if not data:
                raise ConnectionResetError
            got += data
        if not got.startswith(b"HTTP/1.1 200 "):
            raise ConnectionResetError(got[:40])
        conns.append(s)
    except OSError as e:
        print(f"after {len(conns)}: {e!r}", file=sys.stderr)
        break
print("ready", len(conns), flush=True)
select.select([sys.stdin], [], [], 120)
still = 0
for s in conns:
    s.setblocking(False)
    try:
        still += s.recv(1) != b""
    except (BlockingIOError, ssl.SSLWantReadError):
        still += 1
    except OSError:
        pass
print(still)
