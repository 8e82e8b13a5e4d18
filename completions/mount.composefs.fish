# Completion of mount.composefs for fish; it belongs into a directory of $fish_complete_path, under this name.

function __mount_composefs_complete
    set -l own \x01
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    _CFSCTL_COMPLETE=fish mount.composefs $words[2..-1] "$word" 2>/dev/null | while read -l line
        switch $line
            case "$own"file
                __fish_complete_path "$word"
            case "$own"dir
                __fish_complete_directories "$word"
            case '*'
                echo $line
        end
    end
end

complete -c mount.composefs -f -a '(__mount_composefs_complete)'
