#!/bin/sh
# Build dist/cfsctl_VERSION_ARCHITECTURE.deb from what git knows of this tree, and let lintian look at it where it is installed.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/cfsctl" dist

git ls-files -z --cached --others --exclude-standard -- debian src packaging completions docs tools README.md CHANGELOG.md |
    tar --null --files-from=- -cf - | tar -C "$work/cfsctl" -xf -
(cd "$work/cfsctl" && DEB_BUILD_OPTIONS=noautodbgsym dpkg-buildpackage -us -uc -b) >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error "$work"/*.changes
fi
rm -f dist/cfsctl_*.deb
mv "$work"/*.deb dist/
