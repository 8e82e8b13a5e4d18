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

say() { printf '\n\033[1m%s\033[0m\n' "$*" | fold -s -w 80; }

# Show a command and run it; IDs in its result are shortened, so that lines fit 80 columns.
run() {
    printf '$ %s\n' "$*"
    "$@" >"$work/result" || return
    sed -E 's/([0-9a-f]{12})[0-9a-f]{20,}/\1.../g' "$work/result"
}

say "This pulls a file system over HTTP into a composefs repository, looks at it, mounts it, and removes it again. It needs no network, takes some seconds, and leaves nothing behind."

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
cd "$work"
repo=repo
export CFSCTL_REPO="$repo"

say "1. Create a repository. With fs-verity, the kernel would verify every byte that is read; this one does without, so that any file system will do."
run cfsctl init --insecure "$repo"

say "2. Pull the branch $ref from the server. Every object is verified; the tree becomes a small image, and larger files become objects."
run cfsctl ostree pull "$url" "$ref"
image=$(cfsctl ostree compute-id "$ref")

say "3. See what is there now, and check it."
run cfsctl ostree inspect "$ref"
printf 'sizes   image %s bytes, objects %s, repository %s on disk\n' \
    "$(stat -Lc %s "$repo/images/$image")" \
    "$(find "$repo/objects" -type f | wc -l)" "$(du -sh "$repo" | cut -f1)"
run cfsctl fsck

if [ "$(id -u)" = 0 ]; then
    say "4. Mount it, and look a file up."
    mkdir mnt
    # Where mounts are not allowed (a container without the right to), the rest is still worth seeing.
    if run cfsctl ostree mount "$ref" mnt; then
        mounted=yes
        run ls mnt
        [ ! -e mnt/usr/lib/os-release ] || run head -n 3 mnt/usr/lib/os-release
        run umount mnt
        mounted=
    fi
else
    say "4. Mounting needs root. Here is the top of the tree instead."
    cfsctl ostree dump "$ref" >dump
    head -n 5 dump | cut -c -80
fi

say "5. Remove the tag, and collect what nothing needs any more."
run cfsctl ostree untag "$ref"
run cfsctl gc
left=$(find "$repo/objects" -type f | wc -l)
[ "$left" = 0 ] || { echo "expected an empty store, found $left objects" >&2; exit 1; }
say "Done: the repository is empty again, and nothing is left behind. Next: docs/tutorial/first-image.md, or 'cfsctl --help'."
