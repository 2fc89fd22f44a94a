"""Work of many threads, done together by whichever of them comes first.

A commit costs a disk's latency, whatever it holds. While one thread commits,
the others queue; the first of those then does the work of all that wait, and
so on. Nobody waits for more than two commits, and nobody polls.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Job:
  """Something that a thread wants done, and what became of it."""

  def __init__(self, work: Callable[[Any], Any]):
    self._work = work
    self.awake = threading.Event()  # it is done, or its thread is to lead
    self.leads = False
    self.result: Any = None
    self.error: BaseException | None = None

  def run(self, argument: Any) -> None:
    """Does it, and keeps its result or its error."""
    try:
      self.result = self._work(argument)
    except BaseException as error:
      self.error = error


class Queue:
  """Jobs that wait to be done together."""

  def __init__(self):
    self._mutex = threading.Lock()
    self._jobs: list[Job] = []
    self._is_led = False

  def do(
    self,
    work: Callable[[Any], T],
    together: Callable[[Sequence[Job]], None],
  ) -> T:
    """What `work` returns, when `together` has done it with others; or raises.

    `together` runs every job that it is given. An error of its own is that of
    all of them.
    """
    job = Job(work)
    with self._mutex:
      self._jobs.append(job)
      job.leads, self._is_led = not self._is_led, True
    try:
      if not job.leads:
        job.awake.wait()
      if job.leads:
        self._lead(together)
    except BaseException:  # as Ctrl-C, while it waits: others go on
      self._leave(job)
      raise
    if job.error is not None:
      raise job.error
    return job.result

  def _lead(self, together: Callable[[Sequence[Job]], None]) -> None:
    with self._mutex:
      jobs, self._jobs = self._jobs, []
    try:
      together(jobs)
    except BaseException as error:
      for job in jobs:
        job.error = error
    for job in jobs:
      job.leads = False
      job.awake.set()
    self._pass_on()

  def _pass_on(self) -> None:
    """Has the first that waits lead, if somebody does."""
    with self._mutex:
      self._is_led = bool(self._jobs)
      if self._jobs:
        self._jobs[0].leads = True
        self._jobs[0].awake.set()

  def _leave(self, job: Job) -> None:
    with self._mutex:
      if job in self._jobs:
        self._jobs.remove(job)
    if job.leads:
      job.leads = False
      self._pass_on()
