#!/usr/bin/env bash
# Fetches what the command has written into $LOGS/results.
#
#   tpu_scripts/fetch.sh --env=FILE
#   tpu_scripts/fetch.sh --env=FILE --results=gs://bucket/runs --checkpoints=yes
#
# RESULTS is a path on the first host (process 0 writes) or in a bucket; run
# again it brings what is new. Ends with 0, 2 where there is nothing of that
# name, 75 where the host does not answer, 77 without login or permission.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
# shellcheck source=config.sh
. "$here/config.sh"

from_bucket() { # DESTINATION
  local flags=(--recursive) code=0
  [ "$CHECKPOINTS" = yes ] || flags+=('--exclude=(^|.*/)checkpoints/.*')
  cloud "$FETCH_SECONDS" storage rsync "$RESULTS" "$1" "${flags[@]}" \
    "--project=$PROJECT" --quiet 2>"$work/error" || code=$?
  [ "$code" != 0 ] || return 0
  code=0
  explain "$work/error" "$RESULTS could not be fetched" || code=$?
  exit "$code"
}

from_host() { # DESTINATION
  on_host "$FETCH_SECONDS" 0 0 pack "$RESULTS" "$CHECKPOINTS" \
    >"$work/slice0-host0.out" 2>"$work/slice0-host0.err" || {
    echo "$?" >"$work/slice0-host0.code"
    echo "0 0" >"$work/hosts"
    check_hosts "fetching $RESULTS" "$FETCH_SECONDS" || exit $?
  }
  [ -n "$DRY_RUN" ] || tar -xzf "$work/slice0-host0.out" -C "$1" ||
    fail "$AGAIN" "what came of $RESULTS is cut off; $1 may lack files"
}

main() {
  configure "$0" "$@"
  local destination=$LOGS/results
  [ -n "$DRY_RUN" ] || mkdir -p "$destination"
  case $RESULTS in
    gs://*) from_bucket "$destination" ;;
    *) from_host "$destination" ;;
  esac
  [ -n "$DRY_RUN" ] || say "$RESULTS is in $destination"
}

main "$@"
