#!/usr/bin/env bash
# Ends the command on every host: SIGTERM, after which it saves, and SIGKILL for
# what is still there GRACE seconds later. The slice stays.
#
#   tpu_scripts/stop.sh --env=FILE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
# shellcheck source=config.sh
. "$here/config.sh"

stop_on_host() { # NODE WORKER
  on_host "$((SSH_SECONDS + GRACE))" "$1" "$2" stop "$GRACE"
}

main() {
  local code=0
  configure "$0" "$@"
  list_hosts || code=$?
  [ "$code" != "$ABSENT" ] || fail 2 "there is no $NAME in $ZONE"
  [ "$code" = 0 ] || exit "$code"
  on_hosts stop_on_host
  [ -z "$DRY_RUN" ] || return 0
  check_hosts stop "$((SSH_SECONDS + GRACE))" || exit $?
  # shellcheck disable=SC2031
  [ -n "${INNER:-}" ] || say "nothing runs on $NAME any more; it is billed" \
    "until tear_down.sh"
}

main "$@"
