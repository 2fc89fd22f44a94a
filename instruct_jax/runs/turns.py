"""Whose turn it is in a folder: the lock, the readers, and what stays.

A stage is built by the one job that holds its lock, and only moved aside when
no job reads it and no config of this job names it as it is.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

from etils import epath

from instruct_jax.base import errors
from instruct_jax.parallel import hosts
from instruct_jax.runs import lock, marks, plan, references


@dataclasses.dataclass(frozen=True)
class Job:
  """What holds for all stages of a command."""

  wait: bool  # for other jobs
  keep_old: int  # runs of a name that were broken off
  named: list[references.Given]  # runs of the user, which stay where they are
  held: contextlib.ExitStack  # until the command ends


@contextlib.contextmanager
def job(stage: plan.Stage, *, wait: bool, keep_old: int) -> Iterator[Job]:
  """The command that builds a stage; notes that it reads what it was given.

  Raises UserError where a run that was given has changed since the plan.
  """
  named = plan.given(stage)
  with contextlib.ExitStack() as held:
    for folder in sorted({f for each in named for f in each.keeps()}):
      held.enter_context(marks.using(epath.Path(folder)))
    hosts.once("named", lambda: _check_named(named))
    yield Job(wait, keep_old, named, held)


@contextlib.contextmanager
def turn(stage: plan.Stage, mine: Job) -> Iterator[None]:
  """Holds the lock of a stage, in whose way is nobody; then notes its reader.

  Raises UserError where another job is in the way and is not to be waited for.
  """
  while True:
    with lock.hold(stage.folder, wait=mine.wait):
      others = hosts.once(f"readers of {stage.name}", lambda: _readers(stage))
      if not others:
        yield
        mine.held.enter_context(marks.using(stage.folder))
        return
    if not mine.wait:
      raise errors.UserError(
        f"{stage.folder}: {', '.join(others)} reads it, and it would be built"
        " with other settings. Wait, leave --nowait out, or name another"
        " --workdir."
      )
    marks.wait_for(stage.folder, others)


def _readers(stage: plan.Stage) -> list[str]:
  """The other jobs that read what would be moved aside."""
  fits = plan.written_digest(stage) in ("", stage.digest)
  return [] if fits else marks.users(stage.folder)


def _check_named(named: list[references.Given]) -> None:
  for each in named:
    need = each.key.rpartition(".")[2]
    if references.resolve(need, os.fspath(each.folder)).digest != each.digest:
      raise errors.UserError(
        f"{each.key}={each.folder}: another job has changed it just now; give"
        " the command again"
      )
