#!/usr/bin/env bash
# Starts the command on every host of the slice, in the background there: a
# connection that is lost ends nothing.
#
#   tpu_scripts/launch.sh --env=FILE
#   tpu_scripts/launch.sh --env=FILE -- python -m instruct_jax.main --config=...
#
# Where it runs already it is left alone. watch.sh shows what it says, stop.sh
# ends it. Ends with 0, 2 where a host says no (another command runs there, it
# is not set up), 75 where one does not answer, 77 without login or permission.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
# shellcheck source=config.sh
. "$here/config.sh"

start_on_host() { # NODE WORKER
  on_host "$SSH_SECONDS" "$1" "$2" start \
    ${ENVIRONMENT[@]+"${ENVIRONMENT[@]}"} -- "${COMMAND[@]}"
}

ask_host() { # NODE WORKER
  on_host "$SSH_SECONDS" "$1" "$2" is_done \
    ${ENVIRONMENT[@]+"${ENVIRONMENT[@]}"} -- "${COMMAND[@]}"
}

# Whether the command has ended well on all hosts: train.sh, which may have been
# stopped before it saw that, does not start it again.
is_done() {
  local node worker
  [ -n "${UNLESS_DONE:-}" ] || return 1
  on_hosts ask_host
  while read -r node worker; do
    grep -q '^done already' "$work/$(label "$node" "$worker").out" || return 1
  done <"$work/hosts"
  say "it was done before, on all hosts"
}

main() {
  local code=0 node worker
  needs_command=yes
  configure "$0" "$@"
  list_hosts || code=$?
  [ "$code" != "$ABSENT" ] || fail 2 "there is no $NAME in $ZONE: create.sh"
  [ "$code" = 0 ] || exit "$code"
  ! is_done || return 0
  on_hosts start_on_host
  [ -z "$DRY_RUN" ] || return 0
  check_hosts launch "$SSH_SECONDS" || exit $?
  while read -r node worker; do
    say "$(label "$node" "$worker"):" \
      "$(tail -n 1 "$work/$(label "$node" "$worker").out")"
  done <"$work/hosts"
}

main "$@"
