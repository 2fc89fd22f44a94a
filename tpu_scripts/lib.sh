# shellcheck shell=bash
# What the scripts here share: messages, configuration, calls of gcloud, hosts.
# It is sourced, never run, and keeps to what bash 3.2 has, that of macOS.
# What can be configured stands in config.sh, what is done on hosts in hosts.sh.

# How a script ends, beside 0 (done), 2 (bad input) and 3 (training diverged):
AGAIN=75  # the same command goes on
# shellcheck disable=SC2034 # the others' names of it
LOST=76   # the slice is gone, or does not answer: it has to be made anew
PERSON=77 # the cloud wants a person: login, permission, quota
# shellcheck disable=SC2034
LATE=78   # the slice was not there in time, and is still asked for
ABSENT=44 # asked for something that is not there

if [ -z "${BASH_VERSION:-}" ]; then
  echo "error: these scripts are bash's; run them with bash, not with sh" >&2
  exit 2
elif [ "$((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1]))" -lt 302 ]; then
  echo "error: this is bash $BASH_VERSION; bash 3.2 or newer is needed" >&2
  exit 2
fi

newline='
'

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

fail() { # EXIT_CODE SENTENCE
  local code=$1
  shift
  printf 'error: %s\n' "$*" >&2
  exit "$code"
}

# Ranges of letters mean the same everywhere; what is started has its own locale.
export -n LC_ALL
LC_ALL=C

# --- quoting -----------------------------------------------------------------

# The arguments as one line for any shell: what it reads back is what was given.
quoted() {
  local word out='' apostrophe="'\\''"
  for word; do
    case $word in
      '' | *[!a-zA-Z0-9_./:=@%+,-]*)
        word="'${word//\'/$apostrophe}'"
        ;;
    esac
    out="$out${out:+ }$word"
  done
  printf '%s' "$out"
}

# --- signals and time limits -------------------------------------------------

# shellcheck disable=SC2030,SC2031 # a worker has its own
children='' # process groups and workers that end with this shell
work=''     # a folder of this script, deleted at its end

# Scripts and workers end what is theirs themselves, in their own time.
stop_children() {
  local process try
  for process in $children; do
    kill -TERM -- "$process" 2>/dev/null || true
  done
  for process in $children; do
    case $process in
      -*)
        for try in 1 2 3 4 5 6 7 8 9; do
          kill -0 -- "$process" 2>/dev/null || break
          sleep "0.$try"
        done
        kill -KILL -- "$process" 2>/dev/null || true
        ;;
      *) wait "$process" 2>/dev/null || true ;;
    esac
  done
}

# SIGINT and SIGTERM end this shell and what it has started. While a request
# that must not be cut off is under way (`held`) they wait for its end.
held=''
release() { # what `held` has held back happens now
  local signal=$held
  held=''
  # shellcheck disable=SC2086 # a name and a code
  case $signal in INT* | TERM*) on_signal $signal ;; esac
}

on_signal() { # NAME CODE
  if [ -n "$held" ]; then
    held="$1 $2"
    return 0 # without a number it would be that of what was broken off
  fi
  trap '' INT TERM
  stop_children
  [ -n "${INNER:-}" ] || say "stopped by SIG$1"
  exit "$2"
}

arm() {
  trap 'on_signal INT 130' INT
  trap 'on_signal TERM 143' TERM
}

# Runs a command with a time limit in seconds; 124 where it took longer. (There
# is no `timeout` on macOS.) It has a process group of its own, so that what it
# has started ends with it, and so has what watches the time.
limited() { # SECONDS COMMAND...
  local limit=$1 begun=$SECONDS pid watch code others=$children
  shift
  set -m
  "$@" </dev/null 3>&- &
  pid=$!
  watch_time "$limit" "$pid" </dev/null >/dev/null 2>&1 3>&- &
  watch=$!
  set +m
  children="$children -$pid -$watch"
  while :; do # a signal that is held back ends `wait`, not the command
    code=0
    wait "$pid" 2>/dev/null || code=$?
    if [ "$code" -le 128 ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
  done
  kill -KILL -- "-$watch" 2>/dev/null || true
  wait "$watch" 2>/dev/null || true
  children=$others
  [ "$code" -lt 128 ] || [ "$((SECONDS - begun))" -lt "$limit" ] || code=124
  return "$code"
}

watch_time() { # SECONDS PROCESS_GROUP
  trap - INT TERM
  sleep "$1"
  kill -TERM -- "-$2"
  sleep 5
  kill -KILL -- "-$2"
}

# --- gcloud ------------------------------------------------------------------

# gcloud with a time limit; with --dry-run the command is printed instead. What
# was run stands in commands.log, whatever became of it.
cloud() { # SECONDS ARGUMENTS...
  local limit=$1
  shift
  if [ -n "$DRY_RUN" ]; then
    printf '%s\n' "$(quoted gcloud "$@")" >&3
    return 0
  fi
  printf '%s %s\n' "$(date +%FT%T)" "$(quoted gcloud "$@")" \
    >>"$LOGS/commands.log"
  limited "$limit" gcloud "$@"
}

# What kind of error gcloud's words are.
kind_of_error() { # FILE
  local kind pattern
  while read -r kind pattern; do
    if grep -qE "$pattern" "$1"; then
      printf '%s' "$kind"
      return
    fi
  done <<'KINDS'
other RATE_LIMIT_EXCEEDED|per minute
login gcloud auth login|[Rr]eauthentication|current auth tokens|active account
quota RESOURCE_EXHAUSTED|[Qq]uota
permission PERMISSION_DENIED|does not have permission|SERVICE_DISABLED
absent NOT_FOUND|was not found
exists ALREADY_EXISTS|already exists
invalid INVALID_ARGUMENT|unrecognized arguments|argument -|Invalid value
KINDS
  printf 'other'
}

# Says in a sentence what gcloud's error means; returns how to end for it.
explain() { # FILE WHAT
  local code=$AGAIN
  case $(kind_of_error "$1") in
    login)
      say "$2: the login of gcloud has expired or is missing; run" \
        "'gcloud auth login', then the same command again"
      code=$PERSON
      ;;
    quota)
      say "$2: the project's quota is used up; ask for more in the console" \
        "(IAM, Quotas, Cloud TPU API) or take another zone or --accelerator"
      code=$PERSON
      ;;
    permission)
      say "$2: this account may not; the project $PROJECT needs the Cloud TPU" \
        "API enabled, and the account the role TPU Admin (roles/tpu.admin)"
      code=$PERSON
      ;;
    invalid)
      say "$2: gcloud does not take one of the values"
      code=2
      ;;
    *) say "$2: gcloud failed" ;;
  esac
  sed 's/^/  gcloud: /' "$1" >&2
  return "$code"
}

# Asks the cloud, three times where it fails for no reason of ours, and leaves
# what it says in `answer`. Fails with ABSENT, PERSON, 2 or AGAIN, said in a
# sentence but for ABSENT. (No $(...) of it: a signal would wait for that.)
ask() { # ARGUMENTS...
  local try code
  for ((try = 1; try <= ${TRIES:-3}; try++)); do
    code=0
    cloud "$API_SECONDS" "$@" >"$work/answer" 2>"$work/error" || code=$?
    answer=$(cat "$work/answer")
    [ "$code" != 0 ] || return 0
    [ "$code" != 124 ] || echo "no answer for $API_SECONDS s" >>"$work/error"
    case $(kind_of_error "$work/error") in
      absent) return "$ABSENT" ;;
      other) [ "$try" = "${TRIES:-3}" ] || sleep "$POLL" ;;
      *) break ;;
    esac
  done
  explain "$work/error" "${1-} ${2-} ${3-} ${4-}"
}

# Leaves the flags that every call about the slice has in `place`.
placed() { place=("--project=$PROJECT" "--zone=$ZONE"); }

# 'STATE|why|by whom' of the queued resource as the `answer`.
slice_state() {
  local format='csv[no-heading,separator="|"](state.state,'
  format="${format}state.failedData.error.message,state.stateInitiator)"
  ask compute tpus queued-resources describe "$NAME" "${place[@]}" \
    "--format=$format"
}

# Leaves in `nodes` the nodes that create.sh has made under this name, with or
# without the queued resource: names alone may be somebody else's.
list_nodes() {
  ask compute tpus tpu-vm list "${place[@]}" \
    "--filter=labels.instruct_jax=$NAME" '--format=value(name.basename())' ||
    return $?
  nodes=${answer//$newline/ }
}

# Says whether the slice is there, and how to get rid of it.
name_what_remains() {
  local code=0 TRIES=1 node nodes='' state
  [ -z "$DRY_RUN" ] || return 0
  slice_state 2>/dev/null || code=$?
  state=${answer%%|*}
  if [ "$code" = 0 ]; then
    say "STILL THERE: $NAME in $ZONE ($state); it is billed while it is ACTIVE," \
      "and will be when it becomes so. It is deleted by:"
  elif [ "$code" != "$ABSENT" ] || ! list_nodes 2>/dev/null; then
    say "STILL THERE, perhaps: whether $NAME is in $ZONE could not be asked;" \
      "it may be billed. It is deleted by:"
  elif [ -n "$nodes" ]; then
    say "STILL THERE: $nodes in $ZONE, billed. Deleted by:"
    for node in $nodes; do
      printf '  %s\n' "$(quoted gcloud compute tpus tpu-vm delete "$node" \
        "${place[@]}")" >&2
    done
    return
  else
    say "nothing of $NAME is left in $ZONE: nothing is billed"
    return
  fi
  printf '  %s\n' "$(quoted gcloud compute tpus queued-resources delete \
    "$NAME" --force "${place[@]}")" >&2
}
