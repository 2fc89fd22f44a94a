#!/usr/bin/env bash
# Deletes the slice, makes sure that it is gone, and lists what else is there.
#
#   tpu_scripts/tear_down.sh --env=FILE
#
# Ends with 0 when nothing of the slice is left, 75 where something still is
# (named, with the command that deletes it), 77 where login or permission are
# missing. What lies in buckets stays.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=config.sh
. "$here/config.sh"

# Asks for a deletion; a failure is said, and PERSON ends the script.
delete() { # WHAT COMMAND...
  local what=$1 code=0
  shift
  cloud "$API_SECONDS" "$@" "${place[@]}" --async --quiet \
    >"$work/answer" 2>"$work/error" || code=$?
  [ "$code" != 0 ] || return 0
  [ "$(kind_of_error "$work/error")" != absent ] || return 0
  code=0
  explain "$work/error" "$what could not be deleted" || code=$?
  [ "$code" != "$PERSON" ] || exit "$PERSON"
  return 0
}

# Waits until the queued resource is gone, asking for it again where need be.
delete_slice() {
  local look code
  for ((look = 0; look < ATTEMPTS * 20; look++)); do
    code=0
    slice_state || code=$?
    [ -z "$DRY_RUN" ] || [ "$look" = 0 ] || return 0
    case $code in
      "$ABSENT")
        [ "$look" -gt 0 ] || say "there is no $NAME in $ZONE"
        return 0
        ;;
      "$PERSON" | 2) exit "$code" ;;
    esac
    case $answer in
      DELETING*) ;;
      *)
        [ "$((look % 20))" != 0 ] || [ "$look" = 0 ] ||
          say "$NAME is still there (${answer%%|*}): asking again"
        [ "$((look % 4))" != 0 ] ||
          delete "$NAME" compute tpus queued-resources delete "$NAME" --force
        ;;
    esac
    [ -n "$DRY_RUN" ] || sleep "$POLL"
  done
  fail "$AGAIN" "$NAME is still there: ${answer%%|*}"
}

# Deletes the nodes that outlived the queued resource, as a creation that failed
# half-way leaves them.
delete_leftovers() {
  local node nodes='' look
  for ((look = 0; look < ATTEMPTS * 20; look++)); do
    list_nodes
    [ -n "$nodes" ] || return 0
    if [ "$((look % 4))" = 0 ]; then
      for node in $nodes; do
        say "$node is left of it: it is deleted"
        delete "$node" compute tpus tpu-vm delete "$node"
      done
    fi
    sleep "$POLL"
  done
  fail "$AGAIN" "still there: $nodes"
}

# What else is in this zone; it is none of ours, but somebody pays for it.
list_others() {
  local kind found key
  for kind in queued-resources tpu-vm; do
    [ "$kind" = tpu-vm ] && key=state || key=state.state
    ask compute tpus "$kind" list "${place[@]}" \
      "--format=csv[no-heading](name.basename(),$key)"
    for found in $answer; do
      say "also in $ZONE, not of this run: ${found%,*}, ${found#*,} ($kind)"
    done
  done
  case $RESULTS in
    gs://*) say "$RESULTS stays, and what it takes of the bucket is billed" ;;
  esac
}

main() {
  configure "$0" "$@"
  delete_slice
  delete_leftovers
  [ -n "$DRY_RUN" ] || say "gone: $NAME in $ZONE; nothing of it is billed"
  [ -n "${INNER:-}" ] || list_others
}

main "$@"
