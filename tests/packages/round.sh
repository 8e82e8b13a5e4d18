#!/bin/sh
# Use an installed cfsctl once all round: make images, pull over HTTP, verify a signature, look, collect, check.
# usage: round.sh PYTHON DEMO COMMAND...     (PYTHON serves the repository in DEMO)
set -eu
python=$1 demo=$2
shift 2
work=$(mktemp -d)
server=

clean() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT

cd "$work"
"$@" --version
mkdir -p tree/usr/bin upstream
head -c 10000 /dev/zero >tree/usr/bin/program
"$@" init --insecure repo
"$@" --repo repo create-image tree app
"$@" --repo repo images | grep -q app

tar -xJf "$demo/repo.tar.xz" -C upstream
"$python" "$demo/serve.py" upstream >port &
server=$!
while [ ! -s port ]; do
    kill -0 "$server"
    sleep 0.1
done
"$@" -q --repo repo ostree pull "http://127.0.0.1:$(cat port)/" debian/12/minimal
"$@" --repo repo ostree images | grep -q debian/12/minimal
# A key that has signed nothing: what checks signatures works, and says no.
status=0
"$@" -q --repo repo ostree pull --verify-key=ed25519=inline:SiDrPgdTYfNzYjl0TqYBBB6Tp46iIIY1rBwoLvcOBpc= \
    "http://127.0.0.1:$(cat port)/" debian/12/minimal 2>message || status=$?
[ "$status" = 14 ] || { cat message; exit 1; }

"$@" --repo repo gc | grep -q ': 0 removed'
"$@" --repo repo ostree untag debian/12/minimal
"$@" --repo repo gc | grep -qv ': 0 removed'
"$@" --repo repo fsck | grep -q 'status: ok'
echo "cfsctl works"
