#!/usr/bin/env bash
# Sets up every host of the slice: Python, the code, the package with its extras.
#
#   tpu_scripts/set_up.sh --env=FILE
#
# The code is the checkout that this script lies in, with what was changed in it
# and what is new and not ignored by git; or COMMIT of REPOSITORY. A host that
# has it already is left as it is. Ends with 0, 2 where a host says no (named),
# 75 where one does not answer, 77 where login or permission are missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
# shellcheck source=config.sh
. "$here/config.sh"

# Packs the working tree, and leaves what identifies it in `tree`. Its index and
# its objects are kept aside: nothing is written into the repository.
pack_checkout() { # ARCHIVE
  local top objects
  top=$(git -C "$here" rev-parse --show-toplevel 2>/dev/null) ||
    fail 2 "$here is in no git checkout: say which code with REPOSITORY and" \
      "COMMIT"
  objects=$(cd "$top" && cd "$(git rev-parse --git-path objects)" && pwd)
  mkdir -p "$work/objects"
  export GIT_INDEX_FILE=$work/index GIT_OBJECT_DIRECTORY=$work/objects
  export GIT_ALTERNATE_OBJECT_DIRECTORIES=$objects
  git -C "$top" add --all
  tree=$(git -C "$top" write-tree)
  git -C "$top" archive --format=tar.gz "$tree" >"$1"
  unset GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
}

send() { # NODE WORKER FILE...: into the home of a host
  local node=$1 worker=$2
  shift 2
  cloud "$SETUP_SECONDS" compute tpus queued-resources scp "$@" "$NAME:" \
    "${place[@]}" "--node=$node" "--worker=$worker" "${scp_flags[@]}" --quiet
}

set_up_host() { # NODE WORKER FINGERPRINT
  local files=("$work/instruct_jax-$NAME.sh") found
  found=$work/$(label "$1" "$2").found
  remote "$SSH_SECONDS" "$1" "$2" cat ".instruct_jax/$NAME/fingerprint" \
    >"$found" 2>"$found.error" || true
  if [ "$(cat "$found")" = "$3" ]; then
    echo "set up already"
    return
  fi
  [ -n "$COMMIT" ] || files+=("$work/instruct_jax-$NAME.tar.gz")
  send "$1" "$2" "${files[@]}" || return $?
  # shellcheck disable=SC2016 # expanded on the host
  remote "$SETUP_SECONDS" "$1" "$2" bash -c \
    'mkdir -p "$1" && mv "$2" "$1/on_host.sh" && exec bash "$1/on_host.sh" "${@:3}"' \
    bash ".instruct_jax/$NAME" "instruct_jax-$NAME.sh" \
    set_up "$NAME" "$3" "$EXTRAS" "$PYTHON" "$REPOSITORY" "$COMMIT"
}

# scp has no --ssh-flag; what ssh is told, it is told as --scp-flag.
flags_of_scp() {
  local flag
  scp_flags=()
  for flag in "${ssh_flags[@]}"; do
    scp_flags+=("${flag/#--ssh-flag=/--scp-flag=}")
  done
}

main() {
  local tree code=0 node worker
  configure "$0" "$@"
  flags_of_scp
  tree=$COMMIT
  cp "$here/on_host.sh" "$work/instruct_jax-$NAME.sh"
  [ -n "$COMMIT" ] || pack_checkout "$work/instruct_jax-$NAME.tar.gz"
  tree=$tree-$(cksum <"$here/on_host.sh" | cut -d ' ' -f 1)-${EXTRAS//,/+}
  list_hosts || code=$?
  [ "$code" != "$ABSENT" ] || fail 2 "there is no $NAME in $ZONE: create.sh"
  [ "$code" = 0 ] || exit "$code"
  [ -n "$DRY_RUN" ] || say "setting up $(grep -c . "$work/hosts") hosts" \
    "(the first time takes minutes)"
  on_hosts set_up_host "$tree"
  [ -z "$DRY_RUN" ] || cat "$work"/*.out
  [ -z "$DRY_RUN" ] || return 0
  check_hosts "set-up" "$SETUP_SECONDS" || exit $?
  while read -r node worker; do
    say "$(label "$node" "$worker"):" \
      "$(tail -n 1 "$work/$(label "$node" "$worker").out")"
  done <"$work/hosts"
}

main "$@"
