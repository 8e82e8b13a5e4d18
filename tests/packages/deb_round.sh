#!/bin/sh
# Install a Debian package into a system that has nothing else, use it, purge it, and see that nothing is left.
# usage: deb_round.sh PACKAGE.deb SOURCES [MIRROR]     (as root, in a mount namespace of its own)
set -eu
package=$1 sources=$2 mirror=${3:-http://deb.debian.org/debian}
root=$(mktemp -d)
chmod 755 "$root" # apt downloads as another user
clean() {
    umount "$root/proc" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap clean EXIT

debootstrap --variant=minbase bookworm "$root" "$mirror" >"$root.log" 2>&1 || {
    tail -n 20 "$root.log"
    rm "$root.log"
    exit 77 # no mirror, or no right to make devices: not for us to judge
}
rm "$root.log"
inside() { DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 chroot "$root" "$@"; }
everything() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./var/lib/dpkg -o -path ./var/log -o -path ./var/cache \
        -o -path ./tmp -o -path ./var/lib/apt \) -prune -o -print | sort)
}
mount -t proc proc "$root/proc"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
mkdir "$root/tmp/try"
cp -r "$sources/demo" "$sources/tests/packages/round.sh" "$root/tmp/try"
cp "$package" "$root/tmp/try/cfsctl.deb"

# Its dependencies come first, so that what it adds itself can be told.
needed=$(dpkg-deb -f "$package" Depends Recommends | sed 's/^[A-Za-z]*: //; s/([^)]*)//g; s/:any//g; s/,/ /g')
inside apt-get -qq update >/dev/null
# shellcheck disable=SC2086
inside apt-get -qq -y --no-install-recommends install xz-utils $needed >/dev/null 2>&1
before=$(everything)
inside dpkg -i /tmp/try/cfsctl.deb
inside sh /tmp/try/round.sh python3 /tmp/try/demo cfsctl
inside mkcomposefs --help >/dev/null
inside composefs-info --help >/dev/null
inside python3 -c 'import cfsctl; print(cfsctl.__file__)'
inside python3 -c 'import cfsctl.fsverity._lanes as lanes; print(lanes.NAMES)'
[ -e "$root/lib/systemd/system/cfsctl-gc.timer" ]
[ -z "$(find "$root/etc/systemd/system" -name 'cfsctl*')" ] # nothing is enabled unasked
inside dpkg --purge cfsctl
after=$(everything)
[ "$before" = "$after" ] || {
    echo "installing, using and purging changed what is there:"
    printf '%s\n' "$before" >"$root/before"
    printf '%s\n' "$after" | diff "$root/before" - || true
    exit 1
}
echo "cfsctl came and went"
