# shellcheck shell=bash disable=SC2034
# What can be configured: flags, or an env file (example.env says what each key
# means). Flags go before the file; the environment of the caller is not looked
# at. Sourced after lib.sh.

# Keys with a value, and what they are where nothing is given.
defaults() {
  NAME='' PROJECT='' ZONE='' ACCELERATOR='' RUNTIME='' SLICES=1 TIER=spot
  NETWORK='' SUBNETWORK='' SERVICE_ACCOUNT='' SSH=external
  REPOSITORY='' COMMIT='' EXTRAS=tpu PYTHON=''
  RESULTS='' CHECKPOINTS='' LOGS='' KEEP=no
  POLL=30 WAIT=86400 ATTEMPTS=5 GRACE=120 PATIENCE=10 PARALLEL=16
  API_SECONDS=120 SSH_SECONDS=180 SETUP_SECONDS=1800 FETCH_SECONDS=7200
  COMMAND=() ENVIRONMENT=()
}
KEYS='NAME PROJECT ZONE ACCELERATOR RUNTIME SLICES TIER NETWORK SUBNETWORK
SERVICE_ACCOUNT SSH REPOSITORY COMMIT EXTRAS PYTHON RESULTS CHECKPOINTS LOGS
KEEP POLL WAIT ATTEMPTS GRACE PATIENCE PARALLEL API_SECONDS SSH_SECONDS
SETUP_SECONDS FETCH_SECONDS'
LISTS='COMMAND ENVIRONMENT'

DRY_RUN='' ONCE='' ENV_FILE=''

is_key() { # NAME KEYS
  local key
  for key in $2; do
    [ "$key" != "$1" ] || return 0
  done
  return 1
}

# Takes over the keys of an env file, which is bash: `KEY=value`, `KEY='a b'`,
# lists as `KEY=(a 'b c')`.
read_env_file() { # FILE
  local problem before='' key=''
  [ -f "$1" ] || fail 2 "--env=$1: there is no such file"
  problem=$(bash -euc '. "$1"' bash "$(absolute "$1")" 2>&1 >/dev/null) ||
    fail 2 "--env=$1: bash cannot read it: $problem"
  before=" $(compgen -v | tr '\n' ' ') "
  # shellcheck disable=SC1090
  . "$(absolute "$1")"
  for key in $(compgen -v); do
    case "$before" in *" $key "*) continue ;; esac
    case $key in _* | BASH* | PIPESTATUS | key) continue ;; esac
    fail 2 "--env=$1: $key is no key; there are:" \
      "${KEYS//$newline/ } $LISTS"
  done
}

absolute() { # PATH
  case $1 in /*) printf '%s' "$1" ;; *) printf '%s' "$PWD/$1" ;; esac
}

# Takes over flags: --key=value, --dry-run, --once, and after -- the command.
read_flags() {
  local flag key
  while [ "$#" -gt 0 ]; do
    flag=$1
    shift
    case $flag in
      --dry-run | --dry_run) DRY_RUN=yes ;;
      --keep) KEEP=yes ;;
      --once) ONCE=yes ;;
      --env=*) ;;
      --)
        COMMAND=("$@")
        return
        ;;
      --*=*)
        key=$(printf '%s' "${flag%%=*}" | cut -c3- | tr '[:lower:]-' '[:upper:]_')
        is_key "$key" "$KEYS" ||
          fail 2 "${flag%%=*} is not known; --help lists what is"
        printf -v "$key" '%s' "${flag#*=}"
        ;;
      --*) fail 2 "$flag is not known, or needs a value: $flag=VALUE" ;;
      *) fail 2 "'$flag': what is to be run on the hosts comes after --" ;;
    esac
  done
}

usage() { # SCRIPT
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"
  echo
  echo "Keys, in the file of --env=FILE as KEY=value, or as flags --key=value:"
  sed -n 's/^#: \{0,1\}//p' "$(dirname "$1")/example.env"
  echo
  echo "--dry-run prints every command of gcloud and runs none."
}

# Reads flags and the env file, and checks all of it: what every script begins
# with. Leaves `place`, `ssh_flags`, `work` and the folder $LOGS behind.
configure() { # SCRIPT ARGUMENTS...
  local script=$1 argument
  shift
  exec 3>&1
  defaults
  for argument; do
    case $argument in
      --) break ;;
      --help | -h)
        usage "$script"
        exit 0
        ;;
      --env=*) ENV_FILE=${argument#--env=} ;;
    esac
  done
  [ -z "$ENV_FILE" ] || read_env_file "$ENV_FILE"
  read_flags "$@"
  check_values
  [ -z "${needs_command:-}" ] || need_command
  complete
  arm
  work=$(mktemp -d "${TMPDIR:-/tmp}/tpu_scripts.XXXXXX")
  # shellcheck disable=SC2154 # code is the trap's
  trap 'code=$?; at_exit "$code"; rm -rf "$work"; exit "$code"' EXIT
  [ -n "$DRY_RUN" ] || mkdir -p "$LOGS/hosts"
}

# At the end of a script that did not end well, what may be billed is named.
at_exit() { # CODE
  trap '' INT TERM
  [ -n "${INNER:-}" ] || [ "$1" = 0 ] || name_what_remains
}

# --- checks ------------------------------------------------------------------

must() { # KEY PATTERN WHAT_IS_RIGHT
  local value=${!1}
  [ -n "$value" ] || fail 2 "$1 is missing: $3 (--$(flag_of "$1")=...)"
  [[ $value =~ $2 ]] || fail 2 "$1='$value' is wrong: it is $3"
}

may() { # KEY PATTERN WHAT_IS_RIGHT
  [ -z "${!1}" ] || must "$@"
}

flag_of() { printf '%s' "$1" | tr '[:upper:]' '[:lower:]'; }

check_values() {
  local key
  must NAME '^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$' \
    'what the slice is called: small letters, digits and -, 40 at most'
  must PROJECT '^([a-z][-a-z0-9.]*:)?[a-z][-a-z0-9]{4,28}[a-z0-9]$' \
    'the id of a Google Cloud project, e.g. my-project'
  must ZONE '^[a-z]+-[a-z]+[0-9]+-[a-z]$' \
    'a zone that has such TPUs, e.g. us-west4-a'
  must ACCELERATOR '^(v[0-9]+[a-z]*)-[0-9]+$|^v5litepod-[0-9]+$' \
    'a type and a number, e.g. v5litepod-16, v5p-512, v6e-64'
  must TIER '^(spot|on-demand|reserved)$' 'spot, on-demand or reserved'
  must SSH '^(external|internal|iap)$' \
    'external, internal (within the VPC) or iap (a tunnel)'
  must KEEP '^(yes|no)$' 'yes or no'
  may CHECKPOINTS '^(yes|no)$' 'yes or no'
  must EXTRAS '^[a-z_-]+(,[a-z_-]+)*$' "extras of setup.py, e.g. tpu"
  may COMMIT '^[0-9a-f]{40}$' 'a whole git commit, 40 hexadecimal digits'
  for key in SLICES WAIT ATTEMPTS GRACE PATIENCE PARALLEL API_SECONDS \
    SSH_SECONDS SETUP_SECONDS FETCH_SECONDS; do
    must "$key" '^[1-9][0-9]{0,7}$' 'a whole number from 1 on'
  done
  must POLL '^([0-9]*[.])?[0-9]+$' 'seconds between two looks, e.g. 30'
  check_code_and_environment
}

check_code_and_environment() {
  local entry
  [ -z "$COMMIT" ] || [ -n "$REPOSITORY" ] ||
    fail 2 "REPOSITORY is missing: COMMIT says which commit of it is run"
  [ -z "$REPOSITORY" ] || [ -n "$COMMIT" ] ||
    fail 2 "COMMIT is missing: which one of $REPOSITORY is run"
  for entry in ${ENVIRONMENT[@]+"${ENVIRONMENT[@]}"}; do
    [[ $entry =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] ||
      fail 2 "ENVIRONMENT: '$entry' is wrong: it is NAME=VALUE"
  done
  case $RESULTS in
    /* | gs://?*) ;;
    *..*) fail 2 "RESULTS='$RESULTS' is wrong: without '..', please" ;;
  esac
}

need_command() {
  [ "${#COMMAND[@]}" -gt 0 ] ||
    fail 2 "COMMAND is missing: what every host runs, after -- or in the env" \
      "file: COMMAND=(python -m instruct_jax.main --config=...)"
}

# What follows from what was given.
complete() {
  local argument
  placed
  if [ -z "$RUNTIME" ]; then
    case $ACCELERATOR in
      v5litepod-* | v5e-*) RUNTIME=v2-alpha-tpuv5-lite ;;
      v5p-*) RUNTIME=v2-alpha-tpuv5 ;;
      v6e-*) RUNTIME=v2-alpha-tpuv6e ;;
      *) RUNTIME=tpu-ubuntu2204-base ;;
    esac
  fi
  [ -n "$LOGS" ] || LOGS=tpu_runs/$NAME
  ssh_flags=(--ssh-flag=-oConnectTimeout=20 --ssh-flag=-oBatchMode=yes
    --ssh-flag=-oServerAliveInterval=15)
  case $SSH in
    internal) ssh_flags+=(--internal-ip) ;;
    iap) ssh_flags+=(--tunnel-through-iap) ;;
  esac
  if [ -z "$RESULTS" ]; then
    RESULTS=runs
    for argument in ${COMMAND[@]+"${COMMAND[@]}"}; do
      case $argument in --workdir=?*) RESULTS=${argument#--workdir=} ;; esac
    done
  fi
  # What lies in a bucket stays there; what lies on a host goes with it.
  case ${CHECKPOINTS:-$RESULTS} in
    gs://*) CHECKPOINTS=no ;;
    no) ;;
    *) CHECKPOINTS=yes ;;
  esac
}
