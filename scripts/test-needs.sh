#!/bin/sh
# Installs from apt what the tests need and this machine lacks. Does nothing when all is there.
set -eu
packages=
need() { # need PACKAGE COMMAND…: the package is wanted unless the command works
    package=$1
    shift
    "$@" >/dev/null 2>&1 || packages="$packages $package"
}
need build-essential cc --version
need make make --version
# uWSGI is compiled against Python's headers.
need python3-dev "${PYTHON:-python3}" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))'
need curl curl --version
need nghttp2-client h2load --version
need mariadb-server mariadbd --version
need openssl openssl version
need python3-venv "${PYTHON:-python3}" -c 'import venv, ensurepip'
[ -n "$packages" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the tests need:$packages" >&2
    echo "hint: apt install$packages" >&2
    exit 69
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
# shellcheck disable=SC2086  # a list of words
apt-get install -q -y --no-install-recommends $packages >/dev/null
