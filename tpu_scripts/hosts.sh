# shellcheck shell=bash disable=SC2154,SC2034
# The hosts of a slice: which there are, and how all of them are spoken to.
# Sourced after lib.sh.

# Writes the hosts of the slice, 'NODE WORKER' lines, to $work/hosts.
list_hosts() {
  local node=0 worker count id
  : >"$work/hosts"
  if [ -n "$DRY_RUN" ]; then
    echo "# of the first host; the others' differ in --node and --worker" >&3
    echo "0 0" >"$work/hosts"
    return
  fi
  ask compute tpus queued-resources describe "$NAME" "${place[@]}" \
    '--flatten=tpu.nodeSpec[]' '--format=value(tpu.nodeSpec.nodeId)' ||
    return $?
  printf '%s\n' "$answer" >"$work/nodes"
  while read -r id; do
    ask compute tpus tpu-vm describe "$id" "${place[@]}" \
      '--format=value(networkEndpoints.len())' || return $?
    count=$answer
    case $count in
      '' | *[!0-9]*) fail "$AGAIN" "gcloud names no hosts of $id: '$count'" ;;
    esac
    worker=0
    while [ "$worker" -lt "$count" ]; do
      echo "$node $worker" >>"$work/hosts"
      worker=$((worker + 1))
    done
    node=$((node + 1))
  done <"$work/nodes"
}

label() { printf 'slice%s-host%s' "$1" "$2"; } # NODE WORKER

# Runs a function as 'FUNCTION NODE WORKER ARGUMENTS...' for every host, PARALLEL
# at a time: $work/LABEL.out, .err and .code are what it wrote and returned.
on_hosts() { # FUNCTION ARGUMENTS...
  local node worker at started=0
  while read -r node worker; do
    at=$work/$(label "$node" "$worker")
    (
      # shellcheck disable=SC2030 # a worker's own
      children='' INNER=yes code=0
      arm
      "$1" "$node" "$worker" "${@:2}" >"$at.out" 2>"$at.err" || code=$?
      echo "$code" >"$at.code"
    ) &
    # shellcheck disable=SC2031
    children="$children $!"
    started=$((started + 1))
    if [ "$((started % PARALLEL))" = 0 ]; then wait_for_hosts; fi
  done <"$work/hosts"
  wait_for_hosts
}

wait_for_hosts() {
  wait
  children=''
}

# Runs a command on a host, with a time limit; what it says is its output.
remote() { # SECONDS NODE WORKER COMMAND...
  local limit=$1 node=$2 worker=$3
  shift 3
  cloud "$limit" compute tpus queued-resources ssh "$NAME" "${place[@]}" \
    "--node=$node" "--worker=$worker" "${ssh_flags[@]}" --quiet \
    "--command=$(quoted "$@")"
}

# The part of the hosts' script that was asked for.
on_host() { # SECONDS NODE WORKER SUBCOMMAND ARGUMENTS...
  local limit=$1 node=$2 worker=$3
  shift 3
  remote "$limit" "$node" "$worker" \
    bash ".instruct_jax/$NAME/on_host.sh" "$1" "$NAME" "${@:2}"
}

# Says of every host on which the last `on_hosts` failed what it wrote, and
# returns AGAIN, or what an error of the cloud or of the host demands.
check_hosts() { # WHAT_WAS_DONE SECONDS
  local node worker at code result=0
  while read -r node worker; do
    at=$work/$(label "$node" "$worker")
    read -r code <"$at.code"
    [ "$code" != 0 ] || continue
    if [ "$code" = 124 ]; then
      say "$1: ${at##*/} did not answer within $2 s"
      code=$AGAIN
    elif grep -q '^on_host: ' "$at.err"; then
      say "$1: ${at##*/}: $(sed -n 's/^on_host: //p' "$at.err")"
      grep -v '^on_host: ' "$at.err" | tail -n 10 | sed 's/^/  /' >&2 || true
      [ "$code" = "$AGAIN" ] || code=2
    else
      code=0
      tail -n 20 "$at.err" >"$work/error"
      explain "$work/error" "$1: ${at##*/}" || code=$?
    fi
    [ "$result" -ge "$code" ] || result=$code
  done <"$work/hosts"
  return "$result"
}
