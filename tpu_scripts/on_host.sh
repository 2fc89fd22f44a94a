#!/usr/bin/env bash
# What runs on the hosts themselves, sent there by set_up.sh.
#
#   on_host.sh set_up NAME FINGERPRINT EXTRAS PYTHON REPOSITORY COMMIT
#   on_host.sh start|is_done NAME [VARIABLE=VALUE ...] -- COMMAND...
#   on_host.sh report NAME IDENTITY OFFSET BYTES
#   on_host.sh stop NAME SECONDS
#   on_host.sh pack NAME PATH yes|no
#
# All of it lies in ~/.instruct_jax/NAME: code/ (one folder a version), venv/,
# work/ (where the command runs: links into the code, and what it writes), log,
# process, command, exit. Errors begin with 'on_host: ', for check_hosts.
set -euo pipefail
umask 077

subcommand=$1 name=$2
shift 2
root=$HOME/.instruct_jax/$name

fail() {
  printf 'on_host: %s\n' "$*" >&2
  exit 1
}

later() { # it may go better the next time
  printf 'on_host: %s\n' "$*" >&2
  exit 75
}

# --- the process -------------------------------------------------------------

# Whether the command runs: a process of that number that began when it did, and
# not what is left of one until somebody has asked for its exit code.
running() {
  local pid began state now
  [ -f "$root/process" ] || return 1
  read -r pid began <"$root/process"
  read -r state now <<<"$(ps -o stat=,lstart= -p "$pid" 2>/dev/null || true)"
  case $state in Z*) return 1 ;; esac
  [ "$now" = "$began" ]
}

# Whether this very command has ended well here.
is_done() {
  printf '%s\0' "$@" | cmp -s - "$root/command" && ! running &&
    [ "$(cat "$root/exit" 2>/dev/null || true)" = 0 ] &&
    echo "done already" || echo "not done"
}

start() {
  exec 9>"$root/lock"
  flock -w 20 9 || later "another set-up or start is under way"
  [ -f "$root/fingerprint" ] || fail "this host is not set up: set_up.sh first"
  printf '%s\0' "$@" >"$root/command.new"
  if running; then
    cmp -s "$root/command" "$root/command.new" ||
      fail "another command runs here; end it first: stop.sh"
    echo "running already"
    return
  fi
  mv "$root/command.new" "$root/command"
  rm -f "$root/exit"
  # Neither the end of this connection nor that of this shell ends it.
  setsid nohup bash "$root/on_host.sh" supervise "$name" \
    </dev/null >>"$root/log" 2>&1 9>&- &
  echo "$! $(ps -o lstart= -p "$!")" >"$root/process"
  echo "started"
}

# Runs the command, hands SIGTERM on to it, and keeps its exit code.
supervise() {
  local words=() variables=() word child code
  while IFS= read -r -d '' word; do words+=("$word"); done <"$root/command"
  while [ "${words[0]}" != -- ]; do
    variables+=("${words[0]}")
    words=("${words[@]:1}")
  done
  cd "$root/work"
  export PATH="$root/venv/bin:$PATH" PYTHONUNBUFFERED=1
  trap 'kill -TERM "$child" 2>/dev/null || true' TERM
  env ${variables[@]+"${variables[@]}"} "${words[@]:1}" &
  child=$!
  while :; do # a signal ends `wait`, not the child
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  echo "$code" >"$root/exit.new"
  mv "$root/exit.new" "$root/exit"
}

stop() { # SECONDS
  local pid end=$((SECONDS + $1))
  running || return 0
  read -r pid _ <"$root/process"
  kill -TERM "$pid"
  while running && [ "$SECONDS" -lt "$end" ]; do sleep 0.2; done
  running || return 0
  kill -KILL -- "-$pid"
  echo 137 >"$root/exit"
}

# A line 'instruct_jax: STATE EXIT_CODE IDENTITY' and what the log has from
# OFFSET on, whole lines as far as there are, BYTES at most. Another IDENTITY
# than this host's means that this log is new: it is sent from its beginning.
report() { # IDENTITY OFFSET BYTES
  local state=none code=- identity=- offset=$2 size=0 rest
  [ ! -f "$root/identity" ] || identity=$(cat "$root/identity")
  [ "$1" = "$identity" ] || offset=0
  if running; then
    state=running
  elif [ -f "$root/exit" ]; then
    state=exited code=$(cat "$root/exit")
  elif [ -f "$root/process" ]; then
    state=vanished
  fi
  [ ! -f "$root/log" ] || size=$(wc -c <"$root/log")
  size=$((size > offset ? size - offset : 0))
  [ "$size" -le "$3" ] || size=$3
  if [ "$size" -gt 0 ] && [ "$state" = running ] && [ "$(
    piece "$offset" "$size" | tail -c 1 | od -An -tx1 | tr -d ' '
  )" != 0a ]; then
    rest=$(piece "$offset" "$size" | tail -n 1 | wc -c)
    [ "$rest" = "$3" ] || size=$((size - rest))
  fi
  echo "instruct_jax: $state $code $identity"
  [ "$size" = 0 ] || piece "$offset" "$size"
}

piece() { # OFFSET SIZE
  tail -c "+$(($1 + 1))" "$root/log" | head -c "$2"
}

# --- setting up --------------------------------------------------------------

set_up() { # FINGERPRINT EXTRAS PYTHON REPOSITORY COMMIT
  local code=$root/code/$1
  mkdir -p "$root/code" "$root/work"
  exec 9>"$root/lock"
  flock -w 20 9 || later "another set-up or start is under way"
  if [ "$(cat "$root/fingerprint" 2>/dev/null || true)" = "$1" ]; then
    echo "set up already"
    return
  fi
  ! running || fail "a command runs here with other code; end it first:" \
    "stop.sh"
  rm -f "$root/fingerprint" "$root/exit"
  find_python "$3"
  "$python" -c 'import sys; print(f"Python {sys.version.split()[0]}")'
  [ -x "$root/venv/bin/python" ] || "$python" -m venv "$root/venv"
  get_code "$code" "$4" "$5"
  "$root/venv/bin/python" -m pip install --quiet -e "${code}[$2]" ||
    fail "pip could not install the package with its extras $2"
  find "$root/work" -maxdepth 1 -type l -delete
  for entry in "$code"/*; do ln -s "$entry" "$root/work/"; done
  [ -f "$root/identity" ] ||
    echo "$(date +%s)-$$-$RANDOM" >"$root/identity"
  echo "$1" >"$root/fingerprint.new"
  mv "$root/fingerprint.new" "$root/fingerprint"
  echo "set up"
}

get_code() { # FOLDER REPOSITORY COMMIT
  local archive=$HOME/instruct_jax-$name.tar.gz
  [ ! -d "$1" ] || return 0
  rm -rf "$1.new"
  if [ -n "$3" ]; then
    git clone --quiet "$2" "$1.new"
    git -C "$1.new" checkout --quiet --detach "$3"
  else
    mkdir "$1.new"
    tar -xzf "$archive" -C "$1.new"
    rm "$archive"
  fi
  mv "$1.new" "$1"
}

find_python() { # GIVEN; leaves it in `python`
  local try
  for try in 1 2; do
    for python in ${1:-python3.14 python3.13 python3.12 python3.11 python3}; do
      if "$python" -c 'import ensurepip, sys, venv
sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then return; fi
    done
    [ -z "$1" ] || fail "PYTHON=$1 is not here, older than 3.11, or lacks venv"
    [ "$try" = 1 ] || fail "Python 3.11 could not be installed by apt-get"
    install_python || true
  done
}

install_python() {
  local apt=(sudo -n apt-get -o DPkg::Lock::Timeout=300 -q)
  "${apt[@]}" update >/dev/null &&
    "${apt[@]}" install -y python3.11 python3.11-venv >/dev/null
}

# A path as a tar archive on stdout; relative ones are those of the command.
pack() { # PATH WITH_CHECKPOINTS
  local path=$1 without=()
  case $path in /*) ;; *) path=$root/work/$path ;; esac
  [ -e "$path" ] || fail "there is no $path"
  [ "$2" = yes ] || without=(--exclude=checkpoints)
  tar -czf - ${without[@]+"${without[@]}"} -C "$(dirname "$path")" \
    -- "$(basename "$path")"
}

case $subcommand in
  set_up | start | is_done | supervise | report | stop | pack) "$subcommand" "$@" ;;
  *) fail "'$subcommand' is not known" ;;
esac
