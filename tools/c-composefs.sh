#!/bin/sh
# Fetch the C tools of composefs, which Debian 12 lacks, for the tests that compare with them: tools/c-composefs.sh DIRECTORY
#
# They come with the C library of their suite and are started through its loader, by the programs in DIRECTORY/bin.
set -eu
mkdir -p "$1"
target=$(cd "$1" && pwd)
[ ! -e "$target/bin" ] || exit 0
rm -rf "$target/tree"
"$(dirname "$0")/unpack-debian.sh" testing "$target/tree" composefs libcomposefs1 libc6 libssl3t64 zlib1g libzstd1
mkdir "$target/bin.new"
for program in mkcomposefs composefs-info; do
    cat >"$target/bin.new/$program" <<END
#!/bin/sh
exec "$target"/tree/usr/lib*/ld-linux-*.so.* --library-path "$(echo "$target"/tree/usr/lib/*-linux-gnu)" "$target/tree/usr/bin/$program" "\$@"
END
    chmod +x "$target/bin.new/$program"
done
# Last, since it says that all is there.
mv "$target/bin.new" "$target/bin"
