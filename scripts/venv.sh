#!/bin/sh
# Makes the virtual environment $1 hold what the requirement files $2… name; says nothing when all is well.
set -eu
cd "$(dirname "$0")/.."
folder=$1
shift
python=${PYTHON:-python3}
if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "\`$python\` is no Python 3.10 or newer with the venv module" >&2
    echo "hint: apt install python3-venv" >&2
    exit 69
fi
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
for file; do
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$file"
done
touch "$folder/ready"
