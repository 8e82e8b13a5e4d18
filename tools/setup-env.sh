#!/bin/sh
# Make the environment of this project: .venv at the root, exactly the packages of one lock file.
# usage: tools/setup-env.sh LOCKFILE
set -eu
cd "$(dirname "$0")/.."
lock=$1
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "cfsctl needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Set PYTHON=/path/to/python3.11." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv >/dev/null
    else
        echo "Python's venv module is missing: install python3-venv (apt-get install python3-venv)." >&2
        exit 1
    fi
fi
echo "Making the environment .venv with the packages of $lock (once; a minute or so) ..." >&2
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
# The build back end is locked too, so nothing is fetched outside the lock file.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
# Once for all: with PYTHONDONTWRITEBYTECODE in the environment, each start would compile all modules again.
.venv/bin/python -m compileall -q src
