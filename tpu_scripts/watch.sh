#!/usr/bin/env bash
# Shows what all hosts say and how they are, until the command ends.
#
#   tpu_scripts/watch.sh --env=FILE          until it ends
#   tpu_scripts/watch.sh --env=FILE --once   how it is now
#
# $LOGS/hosts/sliceS-hostH.log is what one host said, byte by byte and over all
# restarts; $LOGS/all.log and stdout are all hosts together, line by line. It
# can be ended and begun again: it goes on where it was. Ends as the command
# does on all hosts: 0, 2, 3; with 75 where it should be started again on this
# slice, 76 where the slice is gone or does not answer, 77 without login.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
# shellcheck source=config.sh
. "$here/config.sh"

BYTES=4000000 # of a log at a time

report_of_host() { # NODE WORKER
  local log identity=- base=0 size=0
  log=$LOGS/hosts/$(label "$1" "$2")
  [ ! -f "$log.log" ] || size=$(wc -c <"$log.log")
  [ ! -f "$log.base" ] || read -r identity base <"$log.base"
  on_host "$SSH_SECONDS" "$1" "$2" report "$identity" "$((size - base))" "$BYTES"
}

# Takes a host's report into its log and the common one, and leaves its `state`
# and `code`, and `got`, the bytes that came. Fails where there was no report.
# Offsets are sizes of the log less `base`, what earlier hosts of that number
# had said: whatever is cut off in between, nothing is lost or doubled.
take_report() { # LABEL
  local log=$LOGS/hosts/$1 out=$work/$1.out line identity known=-
  line=$(grep -an -m 1 '^instruct_jax: ' "$out" | cut -d : -f 1) || true
  [ -n "$line" ] || return 1
  read -r _ state code identity <<<"$(sed -n "${line}p" "$out")"
  [ ! -f "$log.base" ] || read -r known _ <"$log.base"
  touch "$log.log"
  [ "$known" = "$identity" ] ||
    echo "$identity $(($(wc -c <"$log.log")))" >"$log.base"
  tail -n "+$((line + 1))" "$out" >"$work/piece"
  got=$(($(wc -c <"$work/piece")))
  [ "$got" != 0 ] || return 0
  cat "$work/piece" >>"$log.log"
  LC_ALL=C awk -v "host=[$1] " '{ print host $0 }' "$work/piece" |
    tee -a "$LOGS/all.log"
}

# One look at all hosts; leaves counts of their states, and the exit codes.
look() {
  local node worker name state code got missed
  running=0 silent=0 received=0 codes='' given_up=''
  on_hosts report_of_host
  [ -z "$DRY_RUN" ] || return 0
  while read -r node worker; do
    name=$(label "$node" "$worker")
    if take_report "$name"; then
      rm -f "$work/$name.missed"
      received=$((received + got))
      if [ "$state" = running ]; then running=$((running + 1)); fi
      case $state in
        exited) codes="$codes $code" ;;
        vanished | none) codes="$codes $state" ;;
      esac
    elif grep -q 'on_host.sh: No such file' "$work/$name.err"; then
      codes="$codes none"
    else
      check_login "$work/$name.err"
      silent=$((silent + 1))
      echo . >>"$work/$name.missed"
      missed=$(grep -c . "$work/$name.missed")
      say "$name does not answer ($missed of $PATIENCE looks)"
      [ "$missed" -lt "$PATIENCE" ] || given_up="$given_up $name"
    fi
  done <"$work/hosts"
}

check_login() { # FILE
  case $(kind_of_error "$1") in
    login | permission)
      local code=0
      explain "$1" "the hosts of $NAME cannot be asked" || code=$?
      say "the command goes on there in the meantime"
      exit "$code"
      ;;
  esac
}

# Ends the script where the slice itself is not what it was.
check_slice() {
  local code=0 id
  slice_state || code=$?
  case $code in
    0) ;;
    "$ABSENT") fail "$LOST" "$NAME is gone from $ZONE" ;;
    "$AGAIN") return 0 ;; # the cloud's answer is missing, not the slice
    *) exit "$code" ;;
  esac
  [ -z "$DRY_RUN" ] || return 0
  slice=${answer%%|*}
  [ "$slice" = ACTIVE ] ||
    fail "$LOST" "$NAME was preempted, or is no longer there: $slice"
  [ "$silent" -gt 0 ] || return 0
  while read -r id; do
    ask compute tpus tpu-vm describe "$id" "${place[@]}" \
      '--format=value(state)' || return 0
    case $answer in
      PREEMPTED | TERMINATED | STOPPED | STOPPING | DELETING)
        fail "$LOST" "$id of $NAME was preempted: it is $answer"
        ;;
    esac
  done <"$work/nodes"
}

# What the exit codes of all hosts mean together.
verdict() {
  local code result=0
  for code in $codes; do
    case $code in
      2 | 3) [ "$result" = 2 ] || result=$code ;;
      0) ;;
      *) case $result in 2 | 3) ;; *) result=$AGAIN ;; esac ;;
    esac
  done
  [ -n "${codes// none/}" ] || result=2
  echo "$result"
}

# The last line of progress, that of the first process.
last_progress() {
  tail -n 200 "$LOGS/hosts/slice0-host0.log" 2>/dev/null |
    grep -aE '(^| )[0-9]+/[0-9]+ ' | tail -n 1 || true
}

summary() {
  local part
  part="$slice, $(grep -c . "$work/hosts") hosts: $running running"
  [ "$silent" = 0 ] || part="$part, $silent silent"
  [ -z "$codes" ] || part="$part, ended with$codes"
  printf '%s; %s' "$part" "$(last_progress)"
}

# Ends what still runs where one host has ended badly long enough ago.
end_the_rest() {
  local bad
  bad=$(printf '%s' "$codes" | tr -d ' 0')
  if [ -z "$bad" ]; then
    since=''
  elif [ -z "$since" ]; then
    since=$SECONDS
    say "a host has ended with$codes; the others have $GRACE s"
  elif [ "$((SECONDS - since))" -ge "$GRACE" ]; then
    say "the others have not ended: they are stopped"
    INNER=yes bash "$here/stop.sh" "${arguments[@]}" || true
    since=''
  fi
}

main() {
  local arguments=("$@") code=0 silent=0 slice='' before='' now since=''
  local running received codes given_up
  configure "$0" "$@"
  list_hosts || code=$?
  [ "$code" != "$ABSENT" ] || fail "$LOST" "there is no $NAME in $ZONE"
  [ "$code" = 0 ] || exit "$code"
  while :; do
    check_slice
    look
    [ -z "$DRY_RUN" ] || return 0
    now=$(summary)
    if [ -n "$ONCE" ] || [ "${now%%;*}" != "$before" ]; then say "$now"; fi
    before=${now%%;*}
    [ -z "$ONCE" ] || return 0
    [ "$received" = 0 ] || [ "$running" -gt 0 ] || continue
    if [ "$((running + silent))" = 0 ]; then
      code=$(verdict)
      [ -n "${codes// none/}" ] ||
        say "nothing was launched on $NAME: launch.sh"
      exit "$code"
    fi
    [ -z "$given_up" ] || fail "$LOST" "without an answer for too long:$given_up"
    end_the_rest
    sleep "$POLL"
  done
}

main "$@"
