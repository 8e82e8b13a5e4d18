#!/bin/sh
# Build dist/cfsctl.pyz: cfsctl and all that it needs, at the versions of requirements/app.txt, in one file.
# It has compiled parts, so it is for the kind of machine and the version of Python that .venv has.
set -eu
# Times in the wheel, and all that depends on the order of names, are the same whenever and wherever it is built.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-315532800}" LC_ALL=C.UTF-8 PYTHONHASHSEED=0
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

# Without our own extension: the file is the same wherever it is built.
CFSCTL_NO_EXTENSION=1 "$bin/hatchling" build -t wheel -d "$parts/wheel"
"$bin/uv" pip install -q --no-build --require-hashes --target "$parts/site" --python "$bin/python" \
    -r requirements/app.txt
"$bin/uv" pip install -q --offline --no-deps --target "$parts/site" --python "$bin/python" "$parts"/wheel/*.whl
# Where and when the wheel was made is nobody's business, and would make each file another one.
for info in "$parts"/site/cfsctl-*.dist-info; do
    rm -f "$info/direct_url.json" "$info/uv_cache.json"
    sed -i -e '/direct_url\.json/d' -e '/uv_cache\.json/d' "$info/RECORD"
done
mkdir -p dist
"$bin/shiv" --reproducible --compressed -p '/usr/bin/env python3' -c cfsctl --site-packages "$parts/site" \
    -o "$parts/cfsctl.pyz"
# Another Python, or a home that cannot be written, gets a message and no traceback.
"$bin/python" tools/finish_zipapp.py "$parts/cfsctl.pyz"
mv "$parts/cfsctl.pyz" dist/cfsctl.pyz
