"""What happens after a training step: log, validate, sample, save, stop."""

import time

from instruct_jax.base import errors, interrupt, means, terminal
from instruct_jax.training import step as step_lib
from instruct_jax.training import validate


class Clock:
  """Seconds by phase of one step."""

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._last = time.monotonic()

  def lap(self, phase: str) -> None:
    """Books the time since the last lap on `phase`."""
    now = time.monotonic()
    self.seconds[phase] = now - self._last
    self._last = now


class Hooks:
  """What happens after a step: log, validate, sample, save, stop."""

  def __init__(self, run_, data, log, saver, first, keep_every, earlier):
    self._run, self._data, self._log, self._saver = run_, data, log, saver
    self._keep_every, self._earlier = keep_every, earlier
    self._config = run_.ctx.config
    self._start = self._flushed = time.monotonic()
    self._pending = None
    self._saved = first
    self._progress = terminal.Progress(
      self._config.experiment,
      run_.total_steps,
      start=first,
      show=self._config.show,
    )
    self.last: dict[str, float] = {}  # of the last step logged
    self._validate = validate.Validation(run_)

  def seconds(self) -> float:
    """Seconds in the loop, those of earlier starts included."""
    return self._earlier + time.monotonic() - self._start

  def __call__(self, step, state, found, clock) -> None:
    """Everything that is due after `step` steps."""
    config, last = self._config, step == self._run.total_steps
    if _due(step, config.validate_every) or last:
      found = found | self._validate.metrics(state)
    if _due(step, config.samples_every) or last:
      self._log.samples(step, self._validate.samples(state))
    self._pending = (step, found, clock, _due(step, config.log_every) or last)
    stop = interrupt.requested()
    kept = self._keep_every and step % self._keep_every == 0
    if _due(step, config.save_every) or kept or last or stop:
      self.flush()
      self._save(step, state)
    if stop and not last:
      raise interrupt.Interrupted

  def flush(self) -> None:
    """Fetches the metrics of the last step: logs them, checks them."""
    if self._pending is None:
      return
    step, found, clock, logged = self._pending
    self._pending = None
    # Counts are totals over microbatches and minibatches, the rest means.
    values = means.divide(
      {k: v[0] if k.startswith("count/") else v for k, v in found.items()}
    )
    now = time.monotonic()
    total, self._flushed = now - self._flushed, now
    values["rate/tokens_per_second"] = values.get("count/tokens", 0.0) / total
    values["rate/steps_per_second"] = 1.0 / total
    for phase, seconds in clock.seconds.items():
      values[f"seconds/{phase}"] = seconds
    if logged:
      self.last = self._log.write(step, values)
    self._progress.update(step, values)
    if values["count/skipped_in_a_row"] >= self._config.max_skipped:
      self._diverged(step, values)

  def _save(self, step, state):
    extra = {"batches": self._data.get_state(), "seconds": self.seconds()}
    self._saver.save(step, step_lib.items_of(state), extra)
    self._saved = step

  def _diverged(self, step, values):
    bad = [name for name, value in values.items() if not abs(value) < 1e38]
    name = bad[0] if bad else "the gradient"
    raise errors.Diverged(
      f"{self._config.experiment}: {self._config.max_skipped} updates in a row "
      f"were not finite, the last at step {step}, where the first bad metric "
      f"was {name}. The last good checkpoint, of step {self._saved}, is kept. "
      "Lower the learning rate, or raise config.max_skipped."
    )

  def __enter__(self) -> "Hooks":
    return self

  def __exit__(self, kind, error, trace) -> None:
    """Writes what is pending and waits for the last checkpoint."""
    try:
      if kind is None:
        self.flush()
    finally:
      self._progress.close()
      self._saver.close()
      self._log.close()


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0
