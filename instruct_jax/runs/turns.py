"""Whose turn it is in a folder: the lock, the readers, and what stays.

A stage is built by the one job that holds its lock, and only moved aside when
no job reads it and no config of this job names it as it is. Of the stages that
are ready a job takes one that no other holds. A job that was given runs to read
begins when no other reads what it has to move: so no two wait for each other.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence

from etils import epath

from instruct_jax.base import chain as chain_lib
from instruct_jax.base import errors, interrupt, progress, run_folder
from instruct_jax.parallel import hosts
from instruct_jax.runs import crew, holders, lock, marks, plan, references

_log = logging.getLogger(__name__)
_PATIENCE = 2.0  # seconds after which it is said that a job waits


@dataclasses.dataclass(frozen=True)
class Job:
  """What holds for all stages of a command."""

  wait: bool  # for other jobs
  keep_old: int  # runs of a name that were broken off
  named: list[references.Given]  # runs of the user, which stay where they are
  held: contextlib.ExitStack  # until the command ends
  crew: crew.Crew  # this job and the others at its chain


@contextlib.contextmanager
def job(
  stages: Sequence[plan.Stage], *, wait: bool, keep_old: int
) -> Iterator[Job]:
  """The command that builds stages; notes that it reads what it was given.

  Raises UserError where a run that was given has changed since the plan, and
  where another job reads what has to be moved and `wait` is off.
  """
  named = plan.given(stages[-1])
  with contextlib.ExitStack() as held:
    mine = held.enter_context(crew.join(stages, wait=wait))
    held.enter_context(_reading(stages, named, wait=wait))
    hosts.once("named", lambda: _check_named(named))
    yield Job(wait, keep_old, named, held, mine)


@contextlib.contextmanager
def _reading(
  stages: Sequence[plan.Stage], named: list[references.Given], *, wait: bool
) -> Iterator[None]:
  """Notes that the job reads the runs that it was given, until the block ends.

  Who waits for the reader of a run while it is read itself may wait for ever.
  So the notes are made first, and stay if nobody's are in this job's way then:
  of several that come at once the last one to note sees the others.
  """
  folders = sorted({f for each in named for f in each.keeps()})
  with contextlib.ExitStack() as held:
    while folders:
      with contextlib.ExitStack() as noted:
        for folder in folders:
          noted.enter_context(marks.using(epath.Path(folder)))
        look = functools.partial(_first_read, stages)
        reason, refusal = hosts.once("what is read", look)
        if not reason:
          held.enter_context(noted.pop_all())
          break
      if not wait:
        raise errors.UserError(refusal)
      hosts.once("wait", functools.partial(_pause, stages, reason))
    yield


def _pause(stages: Sequence[plan.Stage], reason: str) -> None:
  """Waits until nobody reads what is to be moved.

  It looks at random times, so that two jobs that saw each other's notes, and
  took theirs back, do not go on like that.
  """
  while reason:
    holders.say(f"waiting for {reason}")
    interrupt.check()
    time.sleep(holders.POLL * random.uniform(0.5, 2))
    reason, _ = _first_read(stages)


@contextlib.contextmanager
def turn(
  ready: Callable[[], Sequence[plan.Stage]], mine: Job, chain: chain_lib.Chain
) -> Iterator[epath.Path]:
  """Holds the lock of a stage, in whose way is nobody; then notes its reader.

  Yields its folder: that of the first stage of those `ready` that is free.
  Where none is, the others are waited for, and `ready` is asked again.

  Raises UserError where another job is in the way and is not to be waited for,
  and what a stage of this chain has failed with in another job.
  """
  with lock.hold_one(lambda t: _choose(t, ready, mine, chain)) as folder:
    yield folder
    mine.held.enter_context(marks.using(folder))


def _choose(
  taker: lock.Taker,
  ready: Callable[[], Sequence[plan.Stage]],
  mine: Job,
  chain: chain_lib.Chain,
) -> epath.Path:
  began, said = time.monotonic(), ""
  with contextlib.ExitStack() as line:
    while True:
      mine.crew.check()
      obstacles = []
      for stage in ready():
        obstacle = _obstacle(stage, taker)
        if obstacle is None:
          mine.crew.check()  # It may have failed just before.
          return stage.folder
        obstacles.append(obstacle)
      reason, refusal = obstacles[0]
      if not mine.wait:
        raise errors.UserError(refusal)
      if reason != said and time.monotonic() - began > _PATIENCE:
        if not said:
          line.enter_context(progress.part(chain, "", title="waiting"))
        said = reason
        _log.info("waiting for %s", reason)
        progress.say(f"for {reason}")
      interrupt.check()
      time.sleep(holders.POLL)


def _obstacle(stage: plan.Stage, taker: lock.Taker) -> tuple[str, str] | None:
  """Takes the lock of a stage; else who is in the way, and the refusal."""
  other = taker.attempt(stage.folder)
  if other:
    path = run_folder.lock_of(stage.folder)
    return f"{stage.name}: {other}", lock.refusal(path, other)
  reason, refusal = _first_read([stage])
  if not reason:
    return None
  taker.give_back()
  return reason, refusal


def _first_read(stages: Sequence[plan.Stage]) -> tuple[str, str]:
  """Who reads the first of the stages that other jobs read and that this moves.

  And the refusal of a job that does not wait; ('', '') where none is read.
  """
  for stage in stages:
    fits = plan.written_digest(stage) in ("", stage.digest)
    readers = "" if fits else ", ".join(marks.users(stage.folder))
    if readers:
      return (
        f"{stage.name}, to build it anew: {readers} reads it",
        f"{stage.folder}: {readers} reads it, and it would be built with other"
        " settings. Wait, leave --nowait out, or name another --workdir.",
      )
  return "", ""


def _check_named(named: list[references.Given]) -> None:
  for each in named:
    need = each.key.rpartition(".")[2]
    if references.resolve(need, os.fspath(each.folder)).digest != each.digest:
      raise errors.UserError(
        f"{each.key}={each.folder}: another job has changed it just now; give"
        " the command again"
      )
