#!/bin/sh
# Fetch a Debian kernel that has fs-verity, for the tests that boot one: tools/guest-kernel.sh DIRECTORY
set -eu
mkdir -p "$1"
target=$(cd "$1" && pwd)
[ ! -e "$target/vmlinuz" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The package of this name depends on the kernel itself.
"$(dirname "$0")/unpack-debian.sh" trixie "$work" 'linux-image-cloud-amd64>'
rm -rf "$target/modules"
mkdir "$target/modules"
for module in erofs overlay netfs libcrc32c crc32c-intel cryptd sha256-ssse3 sha512-ssse3 loop virtio_blk \
    fat vfat nls_cp437 nls_ascii; do
    find "$work" -name "$module.ko*" -type f -exec cp {} "$target/modules" \;
done
# Last, since it says that all is there.
cp "$work"/boot/vmlinuz-* "$target/vmlinuz.new"
mv "$target/vmlinuz.new" "$target/vmlinuz"
