#!/bin/bash
# dracut module: mounts the composefs image that the kernel command line names.
# Asked for with `dracut --add composefs`, or add_dracutmodules+=" composefs " in /etc/dracut.conf.d.

composefs_program=/usr/lib/composefs/composefs-setup-root.pyz

check() {
    require_binaries python3 || return 1
    [[ -e $dracutsysrootdir$composefs_program ]] || return 1
    # Only when it is asked for.
    return 255
}

depends() {
    echo systemd
}

installkernel() {
    # shellcheck disable=SC2154 # dracut sets hostonly
    hostonly='' instmods erofs overlay loop
}

install() {
    local file files
    # dracut goes on with an initramfs that does not boot if this returns an error, so this ends it.
    files=$(python3 -IS "$dracutsysrootdir$composefs_program" --list-files) || {
        dfatal "composefs: $composefs_program does not run; it needs all of Python's standard library (on Debian" \
            "the package python3, not just python3-minimal)"
        exit 1
    }
    while read -r file; do
        inst "$file" || {
            dfatal "composefs: $file cannot be installed"
            exit 1
        }
    done <<<"$files"
    inst_simple "$composefs_program"
    inst_multiple -o /usr/lib/composefs/setup-root-conf.toml
    # shellcheck disable=SC2154 # dracut sets moddir, systemdsystemunitdir and initdir
    inst_simple "$moddir/composefs-setup-root.service" "$systemdsystemunitdir/composefs-setup-root.service"
    # shellcheck disable=SC2154
    $SYSTEMCTL -q --root "$initdir" add-requires initrd-root-fs.target composefs-setup-root.service
}
