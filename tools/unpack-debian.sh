#!/bin/sh
# Unpack Debian packages of another suite without installing them: tools/unpack-debian.sh SUITE DIRECTORY PACKAGE...
#
# The package manager downloads and verifies them, with lists of its own, so that the machine's are left alone.
# "PACKAGE>" means the first package that PACKAGE depends on.
set -eu
suite=$1 target=$2
shift 2
mirror=http://deb.debian.org/debian
keys=/usr/share/keyrings/debian-archive-keyring.gpg
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$target" "$work/lists/partial" "$work/cache/archives/partial" "$work/packages"
target=$(cd "$target" && pwd)
: >"$work/status"
echo "deb [signed-by=$keys] $mirror $suite main" >"$work/sources.list"
apt() {
    "$@" -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::State::status="$work/status" \
        -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root
}
apt apt-get -qq update
cd "$work/packages"
for package; do
    case $package in
    *\>) package=$(apt apt-cache depends "${package%>}" | sed -n 's/^ *Depends: //p' | head -n 1) ;;
    esac
    apt apt-get -qq download "$package"
done
for archive in ./*.deb; do
    dpkg-deb -x "$archive" "$target"
done
