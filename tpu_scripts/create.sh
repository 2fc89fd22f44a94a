#!/usr/bin/env bash
# Asks for a TPU slice (a queued resource) and waits until it is there.
#
#   tpu_scripts/create.sh --env=FILE
#   tpu_scripts/create.sh --name=a --project=p --zone=z --accelerator=v5litepod-16
#
# One that is there already is left as it is; what is left of one that was
# preempted is deleted and asked for anew. Ends with 0 when the slice is ACTIVE,
# 2 for bad input, 75 where it cannot be had now, 77 where login, permission or
# quota are missing, 78 where it is not there within WAIT seconds (it stays asked
# for).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=config.sh
. "$here/config.sh"

create() {
  local flags=("--accelerator-type=$ACCELERATOR" "--runtime-version=$RUNTIME"
    "--labels=instruct_jax=$NAME")
  if [ "$SLICES" = 1 ]; then
    flags+=("--node-id=$NAME")
  else
    flags+=("--node-count=$SLICES" "--node-prefix=$NAME")
  fi
  case $TIER in spot) flags+=(--spot) ;; reserved) flags+=(--reserved) ;; esac
  [ -z "$NETWORK" ] || flags+=("--network=$NETWORK")
  [ -z "$SUBNETWORK" ] || flags+=("--subnetwork=$SUBNETWORK")
  [ -z "$SERVICE_ACCOUNT" ] || flags+=("--service-account=$SERVICE_ACCOUNT")
  [ "$SSH" = external ] || flags+=(--internal-ips)
  # A request that is cut off may have been heard or not: signals wait for it.
  held=yes
  local code=0
  cloud "$API_SECONDS" compute tpus queued-resources create "$NAME" \
    "${place[@]}" "${flags[@]}" --async --quiet \
    >"$work/answer" 2>"$work/refusal" || code=$?
  release
  [ "$code" != 0 ] || return 0
  # It may have been heard all the same: what is there counts.
  if slice_state >/dev/null 2>&1; then
    say "gcloud reported an error, but $NAME was made:"
    sed 's/^/  gcloud: /' "$work/refusal" >&2
    return 0
  fi
  explain "$work/refusal" "$NAME could not be made" || code=$?
  exit "$code"
}

# Waits until the slice is ACTIVE, and says on the way what it waits for.
wait_for_slice() {
  local end=$((SECONDS + WAIT)) before='' code
  while :; do
    code=0
    slice_state || code=$?
    case $code in
      0 | "$AGAIN") ;;
      "$ABSENT") fail "$AGAIN" "$NAME has gone while it was waited for" ;;
      *) exit "$code" ;;
    esac
    [ "$answer" = "$before" ] || [ "$code" != 0 ] || say "$(meaning "$answer")"
    [ "$code" != 0 ] || before=$answer
    case $answer in
      ACTIVE*) return ;;
      FAILED* | SUSPEND*) exit "$AGAIN" ;;
    esac
    [ "$SECONDS" -lt "$end" ] ||
      fail "$LATE" "$NAME is not there after $WAIT s (WAIT); it is still" \
        "asked for: ${answer%%|*}"
    sleep "$POLL"
  done
}

meaning() { # STATE|WHY
  local why=${1#*|}
  why=${why%|*}
  case $1 in
    ACTIVE*) echo "$NAME is ACTIVE: from now on it is billed" ;;
    ACCEPTED* | WAITING_FOR_RESOURCES*)
      echo "$NAME waits in the queue: no $ACCELERATOR ($TIER) is free in $ZONE"
      ;;
    CREATING*) echo "$NAME: the request is being looked at" ;;
    PROVISIONING*) echo "$NAME: the hosts are being started" ;;
    FAILED*) echo "$NAME cannot be had: ${why:-no reason is given}" ;;
    SUSPEND*) echo "$NAME was taken away again (preempted): ${1##*|}" ;;
    *) echo "$NAME: $1" ;;
  esac
}

main() {
  local code=0
  configure "$0" "$@"
  if [ "$TIER" = spot ] && [ "${#COMMAND[@]}" -gt 0 ]; then
    case $RESULTS in
      gs://*) ;;
      *) say "note: a spot slice takes its disks along when it is preempted," \
        "$RESULTS too, and training begins again: --workdir=gs://..." ;;
    esac
  fi
  slice_state || code=$?
  [ -z "$DRY_RUN" ] || code=$ABSENT
  case $code in 0 | "$ABSENT") ;; *) exit "$code" ;; esac
  case $answer in
    FAILED* | SUSPEND* | DELETING*)
      say "$NAME is there, but of no use (${answer%%|*}): it is made anew"
      INNER=yes bash "$here/tear_down.sh" "$@"
      create
      ;;
    '') create ;;
    *) say "$NAME is there already (${answer%%|*})" ;;
  esac
  [ -n "$DRY_RUN" ] || wait_for_slice
}

main "$@"
