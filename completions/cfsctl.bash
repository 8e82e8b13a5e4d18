# Completion of cfsctl and the programs that come with it for bash; as share/bash-completion/completions/cfsctl it is loaded when it is needed.

_cfsctl() {
    local line own=$'\001'
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            "${own}file") compopt -o default -o filenames 2>/dev/null ;;
            "${own}dir") compopt -o dirnames -o filenames 2>/dev/null ;;
            *) COMPREPLY+=("$(printf %q "$line")") ;;
        esac
    done < <(_CFSCTL_COMPLETE=bash COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT "${1:-cfsctl}" 2>/dev/null)
}

complete -F _cfsctl cfsctl mkcomposefs composefs-info mount.composefs
