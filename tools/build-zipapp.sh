#!/bin/sh
# Build dist/cfsctl.pyz: cfsctl and all that it needs, at the versions of requirements/app.txt, in one file.
# It has compiled parts, so it is for the kind of machine and the version of Python that .venv has.
set -eu
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

# Without our own extension: the file is the same wherever it is built.
CFSCTL_NO_EXTENSION=1 "$bin/hatchling" build -t wheel -d "$parts/wheel"
"$bin/uv" pip install -q --no-build --require-hashes --target "$parts/site" --python "$bin/python" \
    -r requirements/app.txt
"$bin/uv" pip install -q --offline --no-deps --target "$parts/site" --python "$bin/python" "$parts"/wheel/*.whl
mkdir -p dist
"$bin/shiv" --reproducible --compressed -p '/usr/bin/env python3' -c cfsctl --site-packages "$parts/site" \
    -o "$parts/cfsctl.pyz"
mv "$parts/cfsctl.pyz" dist/cfsctl.pyz
