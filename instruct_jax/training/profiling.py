"""An XProf trace of some steps: what the devices and the host did, and when.

`--profile=3-5` writes one of steps 3 to 5 into the run's TensorBoard folder,
where TensorBoard's profile plug-in finds it; without that, `xprof
--logdir=RUN/tensorboard` (`pip install xprof`) shows it. Phases (`generate`,
`score`, `update`, ...) and steps are marked in it. Each process writes its own.
"""

import contextlib
import logging
import pathlib
import re
import tempfile
from collections.abc import Iterator

import jax
from etils import epath

from instruct_jax.base import errors
from instruct_jax.training import step

_log = logging.getLogger(__name__)


def parse(text: str) -> tuple[int, int] | None:
  """'3' -> (3, 3); '3-5' -> (3, 5); '' -> None; UserError for the rest."""
  if not text:
    return None
  found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text)
  first = int(found[1]) if found else 0
  last = int(found[2] or first) if found else 0
  if not 1 <= first <= last:
    raise errors.UserError(
      f"config.profile={text!r}: must be a step from 1 on, as 3, or the first"
      " and the last, as 3-5"
    )
  return first, last


class Profile:
  """Traces the steps that are asked for, if they are among those to be done.

  Args:
    text: as `parse` reads it.
    folder: where traces go.
    first: the steps that are done already.
    total: the last step's number.
  """

  def __init__(self, text: str, folder: epath.Path, first: int, total: int):
    self._folder, self._scratch = folder, contextlib.ExitStack()
    self._local: pathlib.Path | None = None
    asked = parse(text)
    self._wanted = range(0)
    if asked is not None:
      start, end = max(asked[0], first + 1), min(asked[1], total)
      self._wanted = range(start, end + 1)
      if not self._wanted:
        _log.warning(
          "warning: config.profile=%s: no such step is left to be done"
          " (steps %d to %d are)",
          *(text, first + 1, total),
        )

  @contextlib.contextmanager
  def around(self, number: int) -> Iterator[None]:
    """To be entered around what step `number` dispatches."""
    if self._wanted and number == self._wanted[0]:
      made = tempfile.TemporaryDirectory(prefix="instruct_jax_trace_")
      self._local = pathlib.Path(self._scratch.enter_context(made))
      jax.profiler.start_trace(self._local)
    if self._local is None:
      yield
      return
    with jax.profiler.StepTraceAnnotation("step", step_num=number):
      yield

  def __call__(self, done: step.Done) -> None:
    """After a step: ends the trace when the last one's devices are done."""
    if self._local is None or done.number < self._wanted[-1]:
      return
    jax.block_until_ready(done.state)
    self.close()
    steps = f"{self._wanted[0]}-{self._wanted[-1]}"
    _log.info("trace of steps %s: in %s", steps, self._folder)

  def close(self) -> None:
    """Ends an open trace, of fewer steps where training was stopped."""
    if self._local is None:
      return
    jax.profiler.stop_trace()
    for path in sorted(self._local.rglob("*")):
      if path.is_file():
        there = self._folder / path.relative_to(self._local).as_posix()
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
    self._local = None
    self._scratch.close()
