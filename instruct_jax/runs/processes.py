"""A command as one of several processes of a job: its flags, and its start.

A door adopts these flags (`flags.adopt_module_key_flags`), calls `join` before
JAX has any device, and `start` once it knows what it was given. Where a command
is alone both do nothing. Of several processes the first one prints.
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence

from absl import flags

from instruct_jax.base import command, interrupt
from instruct_jax.parallel import cluster, joining, link
from instruct_jax.runs import alike, plan

_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT at which process 0 listens for the others."
)
_PROCESSES = flags.DEFINE_integer(
  "processes", None, "How many processes the job has.", lower_bound=1
)
_PROCESS = flags.DEFINE_integer(
  "process", None, "Which of them this is, from 0.", lower_bound=0
)
_START_LIMIT = flags.DEFINE_float(
  "start_limit", 300.0, "Seconds in which all processes must have come."
)
_GRACE = flags.DEFINE_float(
  "grace", 0.0, "Seconds from SIGTERM to the end, saved or not; 0: no limit."
)
# What the processes need not be given the same, and what stages say better.
_NOT_COMPARED = ("coordinator", "process", "processes", "start_limit", "config")


def join() -> link.Link | None:
  """The other processes of this job, if it has any; finds them.

  Raises UserError as `cluster.find` and `joining.join`.
  """
  interrupt.allow(_GRACE.value)
  place = cluster.find(
    _COORDINATOR.value,
    _PROCESSES.value,
    _PROCESS.value,
    seconds=_START_LIMIT.value,
  )
  if place is None:
    return None
  if place.index:
    command.log_to_stderr(logging.WARNING)
    # For good: whatever is printed, the first process prints.
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
  return joining.join(place, _START_LIMIT.value)


def start(
  others: link.Link | None,
  *,
  stages: Sequence[plan.Stage] = (),
  more: Mapping[str, str] | None = None,
) -> None:
  """JAX over all processes, if all were given the same, flags included.

  Args:
    others: what `join` has found.
    stages: the plan, where the command has one, the named one last.
    more: what else must be the same, as {what, in words: a hash of it}.

  Raises:
    UserError: in all processes, where one of them was given another thing.
  """
  if others is None:
    return
  given = {
    f"--{flag.name}": flag.value
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    if flag.name not in _NOT_COMPARED
  }
  alike.check(others, stages, given | dict(more or {}))
  cluster.start(others, is_given=_COORDINATOR.value is not None)
