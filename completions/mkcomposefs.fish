# Completion of mkcomposefs for fish; it belongs into a directory of $fish_complete_path, under this name.

function __mkcomposefs_complete
    set -l own \x01
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    _CFSCTL_COMPLETE=fish mkcomposefs $words[2..-1] "$word" 2>/dev/null | while read -l line
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

complete -c mkcomposefs -f -a '(__mkcomposefs_complete)'
