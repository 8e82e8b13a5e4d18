#!/bin/sh
# Fetch systemd's varlinkctl, which Debian 12 lacks, for the tests with it as a client: tools/varlinkctl.sh DIRECTORY
#
# It comes with the libraries of its suite and is started through its loader, by the program in DIRECTORY/bin.
set -eu
mkdir -p "$1"
target=$(cd "$1" && pwd)
[ ! -e "$target/bin" ] || exit 0
rm -rf "$target/tree"
"$(dirname "$0")/unpack-debian.sh" trixie "$target/tree" systemd libsystemd-shared libc6 libacl1 libaudit1 \
    libblkid1 libcap-ng0 libcap2 libcrypt1 libmount1 libpam0g libpcre2-8-0 libseccomp2 libselinux1 libssl3t64 \
    libzstd1 zlib1g
rm -rf "$target/bin.new"
mkdir "$target/bin.new"
libraries=$(echo "$target"/tree/usr/lib/*-linux-gnu)
cat >"$target/bin.new/varlinkctl" <<END
#!/bin/sh
exec "$target"/tree/usr/lib*/ld-linux-*.so.* --library-path "$libraries:$libraries/systemd" "$target/tree/usr/bin/varlinkctl" "\$@"
END
chmod +x "$target/bin.new/varlinkctl"
"$target/bin.new/varlinkctl" --version >/dev/null
# Last, since it says that all is there.
mv "$target/bin.new" "$target/bin"
