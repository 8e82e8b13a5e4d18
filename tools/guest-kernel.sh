#!/bin/sh
# Fetch a Debian kernel that has fs-verity, for the tests that boot one: tools/guest-kernel.sh DIRECTORY
#
# The package manager downloads and verifies it, with lists of its own, so that the machine's are left alone.
set -eu
mkdir -p "$1"
target=$(cd "$1" && pwd)
suite=trixie
mirror=http://deb.debian.org/debian
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ ! -e "$target/vmlinuz" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
: >"$work/status"
echo "deb [signed-by=$keys] $mirror $suite main" >"$work/sources.list"
apt() {
    "$@" -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::State::status="$work/status" \
        -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root
}
apt apt-get -qq update
package=$(apt apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
cd "$work"
apt apt-get -qq download "$package"
dpkg-deb -x "$work"/*.deb "$work/tree"
rm -rf "$target/modules"
mkdir "$target/modules"
for module in erofs overlay netfs libcrc32c crc32c-intel cryptd sha256-ssse3 sha512-ssse3 loop virtio_blk; do
    find "$work/tree" -name "$module.ko*" -type f -exec cp {} "$target/modules" \;
done
# Last, since it says that all is there.
cp "$work"/tree/boot/vmlinuz-* "$target/vmlinuz.new"
mv "$target/vmlinuz.new" "$target/vmlinuz"
