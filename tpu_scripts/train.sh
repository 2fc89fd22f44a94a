#!/usr/bin/env bash
# All of it: makes the slice, sets it up, launches the command, watches it,
# starts again after preemption until it is done, fetches the results and
# deletes the slice.
#
#   tpu_scripts/train.sh --env=FILE
#   tpu_scripts/train.sh --env=FILE -- python -m instruct_jax.main --config=...
#
# After any interruption the same command goes on: the slice that is there is
# used, what runs there is watched. Ends with the command's 0, 2 or 3; with 75
# where it was given up (ATTEMPTS times without progress; the same command tries
# on), 77 where login, permission or quota are missing. What is left and billed
# is named at the end, with the command that deletes it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=config.sh
. "$here/config.sh"

# Runs one of the other scripts with the same arguments.
step() { # NAME
  local code=0
  [ -z "$DRY_RUN" ] || printf '# %s.sh\n' "$1" >&3
  [ -n "$made" ] || export UNLESS_DONE=yes
  INNER=yes bash "$here/$1.sh" "${arguments[@]}" </dev/null &
  children=$!
  wait "$children" || code=$?
  children=''
  return "$code"
}

# One life of the processes: 0, 2 and 3 are the command's when `launched`.
attempt() {
  launched=''
  step create || return $?
  step set_up || return $?
  step launch || return $?
  launched=yes
  step watch
}

# How far the first process has come: 'stage step' of its last line of progress.
progress() {
  local line pattern='(stage ([0-9]+)/[0-9]+ .*)?  ([0-9]+)/[0-9]+  '
  line=$(grep -aE "  [0-9]+/[0-9]+  " "$LOGS/hosts/slice0-host0.log" \
    2>/dev/null | tail -n 1) || true
  if [[ $line =~ $pattern ]]; then
    echo "${BASH_REMATCH[2]:-0} ${BASH_REMATCH[3]}"
  else
    echo "0 0"
  fi
}

# Counts an attempt; one that came further than all before counts anew. Fails
# when there were enough without progress.
count_attempt() {
  local stage step
  read -r stage step <<<"$(progress)"
  if [ "$((stage * 1000000000 + step))" -gt "$furthest" ]; then
    furthest=$((stage * 1000000000 + step))
    fruitless=0
  fi
  fruitless=$((fruitless + 1))
  [ "$fruitless" -lt "$ATTEMPTS" ] && return
  say "given up: $ATTEMPTS attempts in a row brought nothing further"
  return 1
}

# Attempts until there is an end; leaves its exit code in `code`. A slice that
# was lost is made anew, and one whose hosts did not answer twice.
train() {
  local fruitless=0 furthest stage steps deaf=0
  read -r stage steps <<<"$(progress)"
  furthest=$((stage * 1000000000 + steps))
  while :; do
    code=0 lost=''
    attempt || code=$?
    case $code in
      "$AGAIN" | "$LOST") ;;
      *) return 0 ;;
    esac
    deaf=$((deaf + 1))
    [ -z "$launched" ] || deaf=0
    if [ "$code" = "$LOST" ] || [ "$deaf" -ge 2 ]; then lost=yes; fi
    count_attempt || { code=$AGAIN && return 0; }
    if [ -n "$lost" ]; then
      say "the slice is made anew"
      step tear_down || { code=$? && return 0; }
      made=yes
    else
      say "trying again on the same slice"
    fi
    sleep "$POLL"
  done
}

# Fetches and deletes. What could not be fetched from a host that is there keeps
# it alive, and a slice that was here before, and is no good for this command,
# is not ours to delete.
finish() { # CODE
  local fetched=0
  case $1 in
    "$PERSON") return 0 ;;
    2) [ -n "$launched$made" ] || return 0 ;;
  esac
  if [ -n "$launched" ] && [ -z "$lost" ]; then
    step fetch || fetched=$?
    case $fetched in
      0 | 2) ;;
      *) fail "$AGAIN" "the results are not here yet, so $NAME is kept; the" \
        "same command goes on" ;;
    esac
  fi
  if [ "$KEEP" = yes ]; then
    say "$NAME is kept, as --keep says"
  else
    step tear_down
  fi
}

# One job at a time on the logs of a name.
lock() {
  local holder
  [ -z "$DRY_RUN" ] || return 0
  if ! mkdir "$LOGS/.lock" 2>/dev/null; then
    holder=$(cat "$LOGS/.lock/process" 2>/dev/null || true)
    if [ -n "$holder" ] && kill -0 "$holder" 2>/dev/null; then
      fail 2 "process $holder works on $NAME already ($LOGS)"
    fi
  fi
  echo $$ >"$LOGS/.lock/process"
  locked=yes
}

at_exit() { # CODE
  trap '' INT TERM
  [ -z "${locked:-}" ] || rm -rf "$LOGS/.lock"
  if [ "$KEEP" = yes ] || [ "$1" != 0 ]; then name_what_remains; fi
}

main() {
  local arguments=("$@") code=0 launched='' lost='' made='' job
  needs_command=yes
  configure "$0" "$@"
  lock
  job=$(quoted "${COMMAND[@]}")
  if [ -f "$LOGS/finished" ] && [ "$(cat "$LOGS/finished")" = "$job" ]; then
    say "done already: results are in $LOGS/results; without $LOGS/finished it" \
      "would be done again"
    return
  fi
  if [ -n "$DRY_RUN" ]; then
    made=yes
    attempt
    step fetch
    [ "$KEEP" = yes ] || step tear_down
    return
  fi
  slice_state || code=$?
  case $code in 0) ;; "$ABSENT") made=yes ;; *) exit "$code" ;; esac
  train
  finish "$code"
  if [ "$code" = 0 ]; then
    printf '%s\n' "$job" >"$LOGS/finished"
    say "done: $LOGS/results, $LOGS/all.log"
  fi
  [ "$code" != "$LATE" ] || code=$AGAIN
  exit "$code"
}

main "$@"
