# Completion of composefs-info for fish; it belongs into a directory of $fish_complete_path, under this name.

function __composefs_info_complete
    set -l own \x01
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    _CFSCTL_COMPLETE=fish composefs-info $words[2..-1] "$word" 2>/dev/null | while read -l line
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

complete -c composefs-info -f -a '(__composefs_info_complete)'
