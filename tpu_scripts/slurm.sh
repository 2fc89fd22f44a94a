#!/usr/bin/env bash
#SBATCH --job-name=instruct_jax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
# A job on a GPU cluster with SLURM: one process a GPU, which find each other by
# SLURM's variables.
#
#   sbatch tpu_scripts/slurm.sh python -m instruct_jax.main \
#     --config=experiments/ppo_ptx.py:1.3b --workdir=/shared/runs
#   sbatch --nodes=4 --ntasks-per-node=1 --cpus-per-task=64 tpu_scripts/slurm.sh ...
#
# What sbatch is told on its line goes before the lines above; with
# --ntasks-per-node=1 one process has all the GPUs of its node. It is submitted
# where the command is to run, with the environment that it needs activated. 300
# seconds before the time limit, and on preemption, the processes are told
# (SIGTERM), save, and end with 75; then the job is queued again and the same
# command goes on. Done (0), bad input (2), diverged (3) and a bug (1) end it.
# REQUEUES is how often it may be queued again (100).
# A workdir has to be where all nodes see it.
set -euo pipefail

: "${REQUEUES:=100}"

say() { printf '%s %s\n' "$(date +%FT%T)" "$*" >&2; }

if [ "$#" = 0 ]; then
  echo "error: nothing to run: sbatch $0 python -m instruct_jax.main ..." >&2
  exit 2
elif [ -z "${SLURM_JOB_ID:-}" ]; then
  echo "error: this is a job, not a command: sbatch $0 $*" >&2
  exit 2
elif [[ ! $REQUEUES =~ ^[0-9]+$ ]]; then
  echo "error: REQUEUES='$REQUEUES' is wrong: it is a whole number" >&2
  exit 2
fi

# To the processes of all nodes, not to this script.
told=''
# shellcheck disable=SC2317,SC2329 # the traps call it
tell() {
  [ -z "$told" ] || return 0
  told=yes
  say "$1: the processes are told to save and to end"
  scancel --signal=TERM "$SLURM_JOB_ID" || say "scancel did not reach them"
}

requeue() { # EXIT_CODE
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "$REQUEUES" ]; then
    say "queued again $REQUEUES times (REQUEUES): given up"
    exit "$1"
  fi
  say "exit $1: queued again, the same command goes on"
  scontrol requeue "$SLURM_JOB_ID" ||
    say "it could not be queued again (or SLURM does so itself); by hand:" \
      "scontrol requeue $SLURM_JOB_ID"
  exit "$1"
}

# One process for all GPUs of a node: JAX would take one GPU a process.
if [ "${SLURM_NTASKS_PER_NODE:-}" = 1 ] && [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s , 0 "$((SLURM_GPUS_ON_NODE - 1))")
  export JAX_LOCAL_DEVICE_IDS
fi

trap 'tell "the time limit is near"' USR1
trap 'tell "preempted"' TERM
# A process that dies leaves the others to notice it and to save.
srun --kill-on-bad-exit=0 --label "$@" &
job=$!
while :; do # a signal ends `wait`, not srun
  code=0
  wait "$job" || code=$?
  kill -0 "$job" 2>/dev/null || break
done

case $code in
  0) say "done" ;;
  1 | 2 | 3) say "exit $code: not to be started again" ;;
  *) requeue "$code" ;;
esac
exit "$code"
