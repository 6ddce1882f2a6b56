#!/bin/bash
# Installs the load tools, the peers and a venv in the cache folder (or $BENCH_VENV).
# Each Python peer is installed on its own, so one that fails does not block the rest;
# what failed is listed in $VENV/failed.txt.
set -u
VENV=${BENCH_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/trivet-bench/venv}
mkdir -p "$(dirname "$VENV")"
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1   # RUNLEVEL=1: packages do not start their daemons
apti() { apt-get -o DPkg::Lock::Timeout=600 install -q -y --no-install-recommends "$@"; }
apt-get update -q
apti wrk nghttp2-client apache2-utils openssl
apti nginx-light haproxy caddy
apti apache2 libapache2-mod-wsgi-py3
apti libev-dev libpcre2-dev gcc libc6-dev make pkg-config
apti mariadb-server                   # for techempower; the run starts its own, with its own data
apti libssl-dev                       # for handshakes.c, the load generator for TLS handshakes
[ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
: > "$VENV/failed.txt"
pipi() { nice -n 10 "$VENV/bin/pip" install -q "$@" || echo "$*" >> "$VENV/failed.txt"; }
pipi -U pip wheel 'setuptools<80'     # fastwsgi still imports pkg_resources
# frameworks
pipi flask; pipi bottle; pipi falcon; pipi django; pipi starlette; pipi fastapi python-multipart; pipi robyn
pipi sqlalchemy pymysql               # for the scenario techempower
# servers
pipi gunicorn; pipi granian; pipi waitress; pipi cheroot; pipi uvicorn uvloop httptools; pipi hypercorn
pipi fastwsgi; pipi bjoern; pipi uwsgi; pipi pyvoy
# gunicorn with its C parser needs another gunicorn version today, so it gets its own folder
pipi --target "$VENV/gunicorn-fast" 'gunicorn[fast]'
"$VENV/bin/pip" list --format=freeze > "$VENV/versions.txt"
(cd "$(dirname "$0")" && python3 -c 'import servers; print(servers.no_handshakes() or "handshakes: ok")')
echo "failed:"; cat "$VENV/failed.txt"
