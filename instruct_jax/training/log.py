"""After a step: its metrics and seconds into the journal and the terminal."""

import logging
import time
from collections.abc import Callable

import jax

from instruct_jax.base import (
  compilation,
  errors,
  journal,
  lifetime,
  means,
  memory,
  phases,
  progress,
)
from instruct_jax.training import mfu, step

_log = logging.getLogger(__name__)


class Logger:
  """Writes the metrics of a step, one step late: on the devices till then.

  `saved_steps` tells which checkpoints there are; `watch` what the seconds of
  a step went into.
  """

  def __init__(
    self,
    run: step.Run,
    log: journal.Log,
    first: int,
    saved_steps: Callable[[], list[int]],
    *,
    watch: phases.Watch,
  ):
    self._config, self._log = run.ctx.config, log
    self._warning, self._has_warned = run.algorithm.warning, False
    self._saved_steps, self._watch = saved_steps, watch
    self._pending: tuple[step.Done, phases.Seconds] | None = None
    self._flushed = time.monotonic()
    self._progress = progress.Progress(
      self._config.experiment,
      run.total_steps,
      start=first,
      show=self._config.show,
    )
    self.last: dict[str, float] = {}  # of the last step logged
    self.seconds: dict[str, float] = {}  # by phase, of all steps of this start

  def __call__(self, done: step.Done) -> None:
    """Keeps a step until `flush`."""
    self._pending = done, self._watch.step()

  def flush(self) -> None:
    """Fetches the metrics of the last step: logs them, checks them.

    Raises Diverged after `config.max_skipped` bad updates in a row.
    """
    if self._pending is None:
      return
    (done, by_phase), self._pending = self._pending, None
    # Counts are totals over microbatches and minibatches, the rest means.
    values = means.divide(
      {
        name: pair[0] if name.startswith("count/") else pair
        for name, pair in done.metrics.items()
      }
    )
    self._say_first(done.number)
    now = time.monotonic()
    seconds, self._flushed = now - self._flushed, now
    values["rate/tokens_per_second"] = values.get("count/tokens", 0.0) / seconds
    values["rate/steps_per_second"] = 1.0 / seconds
    if mfu.COUNT in values:
      values |= mfu.rates(values.pop(mfu.COUNT), seconds, jax.devices())
    values |= memory.metrics()
    for phase, x in by_phase.result().items():
      values[f"seconds/{phase}"] = x
      self.seconds[phase] = self.seconds.get(phase, 0.0) + x
    is_over = values["count/skipped_in_a_row"] >= self._config.max_skipped
    if done.is_due(self._config.log_every) or is_over:
      self.last = self._log.write(done.number, values)
    self._progress.update(done.number, values)
    self._warn(done.number, values)
    if is_over:
      self._diverged(done.number, values)

  def close(self) -> None:
    """Gives the terminal back, and closes the journal."""
    self._progress.close()
    self._log.close()

  def _say_first(self, number):
    """How long a start takes, as after a preemption, until it is of use."""
    seconds = lifetime.to_first_step()
    if seconds is not None:
      _log.info(
        "%s: the first step, %d, is done %.1f s after the start; %.1f s of that"
        " went into making programs",
        *(self._config.experiment, number, seconds),
        compilation.program_seconds(),
      )

  def _warn(self, number, values):
    said = "" if self._has_warned else self._warning(self._config, values)
    if said:
      name = self._config.experiment
      _log.warning("warning: %s, step %d: %s", name, number, said)
      self._has_warned = True

  def _diverged(self, number, values):
    bad = [name for name, value in values.items() if not abs(value) < 1e38]
    name = bad[0] if bad else "the gradient"
    saved = max(self._saved_steps(), default=0)
    raise errors.Diverged(
      f"{self._config.experiment}: {self._config.max_skipped} updates in a row "
      f"were not finite, the last at step {number}, where the first bad metric "
      f"was {name}. The last good checkpoint, of step {saved}, is kept. "
      "Lower the learning rate, or raise config.max_skipped."
    )
