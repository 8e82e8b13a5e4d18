#!/bin/sh
# Install the programs that the tests compare with, where that is possible; say what is missing elsewhere.
# usage: setup-debian.sh [PACKAGE...]     (instead of those: packages, each with a file in /usr/share/doc)
set -eu
missing=
lean= # without what it recommends, which is a desktop
want() { # PACKAGE COMMAND
    PATH=$PATH:/usr/sbin:/sbin command -v "$2" >/dev/null || missing="$missing $1"
}
if [ $# -gt 0 ]; then
    for package; do
        [ -e "/usr/share/doc/$package" ] || missing="$missing $package"
    done
else
    want ostree ostree
    want nginx nginx
    want erofs-utils fsck.erofs
    want fsverity fsverity
    want flatpak flatpak
    want gnupg gpg
    want attr setfattr
    want util-linux unshare
    want fuse3 fusermount3
    want qemu-system-x86 qemu-system-x86_64
    want busybox-static busybox
    want e2fsprogs mkfs.ext4
    want dosfstools mkfs.vfat
    want mount losetup
    want xfsprogs mkfs.xfs
    want man-db man
    want mandoc mandoc
    want zsh zsh
    want fish fish
    want skopeo skopeo
    want buildah buildah
    want podman podman
    want uidmap newuidmap
    want docker-registry docker-registry
    # The smallest build of the browser, 100 MB, opens the pages that `report` and `diff --html` write.
    command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || lean=chromium-headless-shell
    [ -e /usr/bin/python3 ] && /usr/bin/python3 -c 'import gi' 2>/dev/null || missing="$missing python3-gi"
fi
if [ -z "$missing$lean" ]; then
    :
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # $missing is a list of words on purpose.
    # shellcheck disable=SC2086
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $missing >/dev/null
    # A suite without the browser is no reason to fail: its tests are skipped with a reason.
    [ -z "$lean" ] || DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $lean >/dev/null ||
        echo "No browser: tests that open pages are skipped." >&2
else
    echo "Not root: tests that need these Debian packages are skipped:$missing $lean (apt-get install$missing $lean)" >&2
fi
[ $# = 0 ] || exit 0
# A kernel with fs-verity, booted in an emulator; without it those tests are skipped.
if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    "$(dirname "$0")/guest-kernel.sh" .guest || echo "No kernel for the tests in the guest: they are skipped." >&2
    "$(dirname "$0")/c-composefs.sh" .c-composefs || echo "No C tools of composefs: tests with them are skipped." >&2
    command -v varlinkctl >/dev/null || "$(dirname "$0")/varlinkctl.sh" .varlinkctl ||
        echo "No varlinkctl of systemd: tests with it are skipped." >&2
fi
