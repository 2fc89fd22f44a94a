"""The jobs that work in one root of runs at the same time.

A job leaves a note while it works there: who it is, and the stages that its
command needs, with their digests. Jobs with the same stages share them. One
that needs a stage with other settings than a job at work begins when that one
has ended: so none ever waits for a job that waits for it. A stage that failed
leaves a note, too, until the last job has left, and the others end as it did
instead of trying it again: those on its machine alone, where the disk or the
memory refused something.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import chain, errors, interrupt, run_folder, storage
from instruct_jax.parallel import hosts
from instruct_jax.runs import finished, holders, lock, marks, plan

_KINDS = {kind.__name__: kind for kind in (errors.UserError, errors.Diverged)}
_LOOK = 5.0  # seconds between looks at what the others do
_SHOWN = 60.0  # seconds in which a file is seen on all hosts


@contextlib.contextmanager
def join(stages: Sequence[plan.Stage], *, wait: bool) -> Iterator["Crew"]:
  """Works on these stages, the named one last; every process calls it.

  Raises UserError where a job at work needs one of them with other settings
  and `wait` is off; Interrupted after SIGTERM while waiting.
  """
  mine = holders.here({stage.name: stage.digest for stage in stages})
  path = run_folder.job_of(stages[-1].folder, mine.token)
  made = [above for above in path.parents if not above.exists()]

  def leave():
    with contextlib.suppress(OSError, errors.UserError):
      path.unlink(missing_ok=True)
      _tidy(path)
    storage.remove_empty(made)

  with interrupt.deferred(), interrupt.undone_by(leave):
    try:
      began = hosts.once("join", lambda: _enter(path, mine, wait))
      _check_shared(path)
      touching = holders.touching(path, mine, hosts.is_writer())
      with touching, interrupt.allowed():
        yield Crew(stages, mine, began)
    finally:
      if hosts.is_writer():
        leave()


def _check_shared(path: epath.Path) -> None:
  """UserError where the root of the runs is not one folder for all hosts.

  Each looks for the note of the first process; a network file system may take
  its time to show it.
  """
  note = epath.Path(hosts.once("note", lambda: os.fspath(path)))
  end = time.monotonic() + _SHOWN
  while not note.exists() and time.monotonic() < end:
    time.sleep(holders.POLL)
  absent = [
    i for i, x in enumerate(hosts.gather("shared", note.exists())) if not x
  ]
  if absent:
    raise errors.UserError(
      f"--workdir={path.parent}: process {absent[0]} does not see there what"
      " process 0 has written; give all hosts one folder that they share, at"
      " the same path"
    )


def _enter(path: epath.Path, mine: holders.Holder, wait: bool) -> float:
  """Leaves the note, once no job at work needs a stage otherwise; when."""
  while True:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError), lock.alone(path.parent):
      found = [(_differing(o, mine), o) for o in _others(path)]
      found = [(name, other) for name, other in found if name]
      if not found:
        storage.write(path, mine.text)
        return storage.modified(path)
      name, other = found[0]
      if not wait:
        raise errors.UserError(
          f"{path.parent / name}: {other} needs it with other settings. Wait,"
          " leave --nowait out, or name another --workdir."
        )
      holders.say(f"waiting: {other} needs {name} with other settings")
    interrupt.check()
    time.sleep(holders.POLL)


def _others(path: epath.Path) -> list[holders.Holder]:
  return marks.others(run_folder.jobs_beside(path))


def _differing(other: holders.Holder, mine: holders.Holder) -> str:
  """A stage that two jobs need with different settings; '' if none."""
  stages = mine.stages.items()
  return next((n for n, x in stages if other.stages.get(n, x) != x), "")


def _tidy(path: epath.Path) -> None:
  """The last one who leaves takes along what failed or died here."""
  if not _others(path):
    marks.others(run_folder.marks_beside(path))
    for note in run_folder.failures_beside(path):
      note.unlink(missing_ok=True)


class Crew:
  """What a job knows of itself and of the others at its chain."""

  def __init__(
    self, stages: Sequence[plan.Stage], mine: holders.Holder, began: float
  ):
    self.began = began  # by the clock of the disk
    self._left = {stage.name: stage for stage in stages}
    self._last, self._mine = stages[-1], mine
    self._known = {note.get("token") for note in self._failures()}
    self._done: set[str] = set()
    self._seen, self._looked = chain.Others(), -_LOOK

  def check(self) -> None:
    """Raises what a stage of this chain has failed with in another job.

    Only what failed since this job began: a new one tries again.
    """
    for note in self._failures():
      stage = self._left.get(note.get("stage", ""))
      is_old = note.get("token") in {*self._known, self._mine.token}
      if stage is None or is_old or note.get("digest") != stage.digest:
        continue
      if note.get("machine", self._mine.machine) != self._mine.machine:
        continue
      if finished.look(stage) is not None:
        continue  # It was its evaluation, which is the other's own.
      kind = _KINDS.get(note.get("kind", ""), errors.UserError)
      raise kind(
        f"{stage.name}: {note.get('who')} could not build it:"
        f" {note.get('text')}"
      )

  @contextlib.contextmanager
  def telling(self, stage: plan.Stage) -> Iterator[None]:
    """Tells the others, under the stage's lock, if it fails in this block."""
    note = run_folder.failure_of(stage.folder)
    if hosts.is_writer():
      note.unlink(missing_ok=True)
    try:
      yield
    except Exception as error:
      if hosts.is_writer():
        self._write(note, stage, error)
      raise
    self._left.pop(stage.name, None)
    self._done.add(stage.name)

  def _write(
    self, note: epath.Path, stage: plan.Stage, error: Exception
  ) -> None:
    tree = {"stage": stage.name, "digest": stage.digest}
    tree |= {"who": str(self._mine), "token": self._mine.token}
    refused = errors.of_system(error)
    if isinstance(error, tuple(_KINDS.values())):
      tree |= {"kind": type(error).__name__, "text": str(error)}
    elif refused and not isinstance(error, interrupt.Interrupted):
      tree |= {"text": refused, "machine": self._mine.machine}
    else:
      return  # A bug is each command's own.
    with contextlib.suppress(OSError):  # Then they try it themselves.
      storage.write_json(note, tree)

  def seen(self) -> chain.Others:
    """What the others have done and do, a few seconds ago at most."""
    now = time.monotonic()
    if now - self._looked >= _LOOK:
      self._looked = now
      with contextlib.suppress(OSError, errors.UserError):
        self._seen = self._look()
    return dataclasses.replace(self._seen, done=frozenset(self._done))

  def _look(self) -> chain.Others:
    others = _others(run_folder.job_of(self._last.folder, ""))
    shared = [x for x in others if x.stages.items() & self._mine.stages.items()]
    running = {}
    for stage in list(self._left.values()) if shared else ():
      path = run_folder.lock_of(stage.folder)
      holder, last = holders.read(path)
      is_held = holder is not None and not holders.gone(path, holder, last)
      if holder is not None and is_held and not holder.is_me:
        running[stage.name] = holder.seconds
      elif not is_held and finished.look(stage):
        self._done.add(stage.name)
    name = self._last.name
    jobs = [x for x in shared if x.stages.get(name) == self._last.digest]
    return chain.Others((), running, 1 + len(jobs))

  def _failures(self) -> list[dict[str, Any]]:
    notes = []
    for path in run_folder.failures_beside(self._last.folder):
      with contextlib.suppress(OSError, errors.UserError):
        notes.append(storage.read_json(path))
    return notes


def needs_of(stages: Sequence[plan.Stage]) -> dict[str, list[str]]:
  """The stages that each stage needs, by name."""
  return {
    stage.name: [
      need.name for need in stage.needs.values() if isinstance(need, plan.Stage)
    ]
    for stage in stages
  }
