# Completion of mount.composefs for bash; that of cfsctl, beside it, knows this program too.

for _cfsctl_file in cfsctl cfsctl.bash; do
    _cfsctl_file=${BASH_SOURCE[0]%/*}/$_cfsctl_file
    [ ! -r "$_cfsctl_file" ] || . "$_cfsctl_file"
done
unset _cfsctl_file
