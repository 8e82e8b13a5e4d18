#!/bin/sh
# Pull an OSTree commit over HTTP into a composefs repository, look at it, mount it, and collect it again.
# usage: demo.sh [URL REF]     (without arguments: the embedded repository, served on 127.0.0.1)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
server=
mounted=

clean() {
    [ -z "$mounted" ] || umount "$work/mnt" || true
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

if [ $# -ge 2 ]; then
    url=$1 ref=$2
else
    mkdir "$work/upstream"
    tar -xJf "$here/repo.tar.xz" -C "$work/upstream"
    python "$here/serve.py" "$work/upstream" >"$work/port" &
    server=$!
    while [ ! -s "$work/port" ]; do
        kill -0 "$server" # the server must be alive while we wait for its port
        sleep 0.05
    done
    url=http://127.0.0.1:$(cat "$work/port")/ ref=debian/12/minimal
fi
repo=$work/repo

say "A repository. It enforces fs-verity where the file system has it; here it does without."
run cfsctl init --insecure "$repo"

say "Pull $ref over HTTP"
run cfsctl --repo "$repo" ostree pull "$url" "$ref"
commit=$(cfsctl --repo "$repo" ostree inspect "$ref" | sed -n 's/^commit *//p')
image=$(cfsctl --repo "$repo" ostree compute-id "$ref")

say "What is there now"
run cfsctl --repo "$repo" ostree images
run cfsctl --repo "$repo" ostree inspect "$ref"
printf 'commit  %s\nimage   %s\n' "$commit" "$image"
printf 'sizes   image %s bytes, objects %s, repository %s on disk\n' \
    "$(stat -Lc %s "$repo/images/$image")" \
    "$(find "$repo/objects" -type f | wc -l)" "$(du -sh "$repo" | cut -f1)"
run cfsctl --repo "$repo" fsck

if [ "$(id -u)" = 0 ]; then
    say "Mount it and look a file up"
    mkdir "$work/mnt"
    # Where mounts are not allowed (a container without the right to), the rest is still worth seeing.
    if run cfsctl --repo "$repo" ostree mount "$ref" "$work/mnt"; then
        mounted=yes
        run ls "$work/mnt"
        [ ! -e "$work/mnt/usr/lib/os-release" ] || run head -n 3 "$work/mnt/usr/lib/os-release"
        run umount "$work/mnt"
        mounted=
    fi
else
    say "Mounting needs root; here is the top of the tree instead"
    cfsctl --repo "$repo" ostree dump "$ref" >"$work/dump"
    head -n 5 "$work/dump"
fi

say "Drop the ref and collect what nothing names any more"
run cfsctl --repo "$repo" ostree untag "$ref"
run cfsctl --repo "$repo" gc
left=$(find "$repo/objects" -type f | wc -l)
[ "$left" = 0 ] || { echo "expected an empty store, found $left objects" >&2; exit 1; }
say "Done: the store is empty again, and nothing is left behind."
