#!/bin/sh
# nightly.sh REPOSITORY URL REF...: what an administrator has cron run: pull each ref, keep the last good one,
# collect garbage if nobody is in the way. Prints a line for each ref, and ends with 1 if a ref failed.
set -eu

repository=$1
url=$2
shift 2
failed=0

cfs() { cfsctl --quiet --repo "$repository" --lock-timeout "${LOCK_TIMEOUT:-5}" "$@"; }

[ -e "$repository/meta.json" ] || cfsctl init --insecure "$repository" >/dev/null

for ref in "$@"; do
    attempt=1
    while :; do
        status=0
        cfs ostree pull "$url" "$ref" >/dev/null || status=$?
        case $status in
            11 | 13) # locked, or no network
                [ "$attempt" -ge 2 ] && break
                attempt=$((attempt + 1))
                ;;
            *) break ;;
        esac
    done
    if [ "$status" -ne 0 ]; then
        echo "$ref failed $status after $attempt"
        failed=1
        continue
    fi
    cfs ostree tag "$ref" "good/$ref" >/dev/null
    echo "$ref $(cfs ostree compute-id "$ref")"
done

status=0
cfs gc >/dev/null || status=$?
case $status in
    0) ;;
    11) echo "gc put off" ;;
    *) echo "gc failed $status" && failed=1 ;;
esac
exit "$failed"
