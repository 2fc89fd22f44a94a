"""How far a command is: one line that a terminal refreshes, or a file gets.

`Progress` counts the steps of what happens now. Inside of a `part` of a chain
the line also says which stage it is, and when the whole chain will be done.
Making programs (tracing, compiling) is said as such and counts neither into a
rate nor into what is left of these steps.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from instruct_jax.base import chain as chain_lib
from instruct_jax.base import compilation, display, terminal

_SHOWN_AFTER = 0.5  # seconds; what compiles for less is not worth a word


_NOWHERE = chain_lib.Chain(), chain_lib.Part("")
_here: list[tuple[chain_lib.Chain, chain_lib.Part]] = []  # what is being done


@contextlib.contextmanager
def part(
  chain: chain_lib.Chain,
  stage: str,
  name: str = "",
  *,
  title: str = "",
  **options: Any,
) -> Iterator[None]:
  """While this lasts, lines of progress belong to this part of the chain.

  `title` is what the line calls it, by default the stage; `options` are those
  of a `Progress`.
  """
  before, mine = _here[:], chain.find(stage, name)
  chain.begin(mine)
  _here[:] = [(chain, mine)]
  try:
    with Progress(f"{title or stage} {name}".rstrip(), None, **options):
      yield
  finally:
    _here[:] = before
    chain.end(mine)


def say(note: str) -> None:
  """Says on the line of progress, if there is one, what is done now."""
  line = display.current()
  if isinstance(line, Progress):
    line.say(note)


class Progress:
  """How far steps are, how fast, and when they and the chain will be done.

  In a terminal the line is refreshed in place; elsewhere (a file, a pipe) a new
  one is written every `interval` seconds, also while nothing is counted. It
  goes to stderr: stdout is for results. Only the first process writes.
  """

  def __init__(
    self,
    name: str,
    total: int | None,
    *,
    start: int = 0,
    show: Sequence[str] = (),
    even: bool = True,
    interval: float = 10.0,
    stream: IO[str] | None = None,
    clock=time.monotonic,
  ):
    """A line for `total` steps (None: no steps) from `start` on.

    `show` names the metrics to print; where steps are not `even`, no rate is
    made of them.
    """
    self._chain, self._part = _here[-1] if _here else _NOWHERE
    self._title = self._chain.title(self._part.stage) + name
    self._total, self._start, self._show = total, start, tuple(show)
    self._even, self._clock = even, clock
    self._step, self._note = start, ""
    self._metrics: dict[str, float] = {}
    self._begun, self._made = clock(), compilation.program_seconds()
    self._active = 0.0  # seconds that the steps done took
    self._first: tuple[int, float] | None = None  # what no rate is made of
    self._display = display.show(self, stream, clock, interval)

  def update(
    self, step: int, metrics: Mapping[str, float] | None = None
  ) -> None:
    """Says that `step` steps are done; metrics stay until they change."""
    self._step, self._active = step, self._elapsed()
    if self._first is None and step > self._start:
      self._first = step, self._active
    self._metrics.update(metrics or {})
    self._measure()
    self._display.changed(self)

  def advance(self, steps: int = 1) -> None:
    """Says that so many steps more are done."""
    self.update(self._step + steps)

  def anew(self) -> None:
    """Says that what comes goes at a rate of its own.

    How long it took until now says nothing of what is left.
    """
    self._active = self._elapsed()
    self._first = self._step, self._active

  def say(self, note: str) -> None:
    """Says what is done now; '' takes it back."""
    self._note = note

  def close(self) -> None:
    """Leaves the last line standing and gives the terminal back."""
    self._display.remove(self)

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *_) -> None:
    self.close()

  @property
  def counts(self) -> bool:
    """Whether there are steps."""
    return self._total is not None

  @property
  def step(self) -> int:
    """How many steps are done."""
    return self._step

  @property
  def is_done(self) -> bool:
    """Whether the last step is."""
    return self._total is not None and self._step >= self._total

  def text(self, width: float = math.inf) -> str:
    """'stage 2/7 sft  11/100  11 %  2/s  0:45 left  chain about 2:05  loss 1'.

    What there is no room for is left out: metrics first, then the rate; the
    stage, the step and what is left stay longest.
    """
    parts = list(self._parts())
    while len(parts) > 1 and _length(parts) > width:
      parts.remove(max(parts, key=lambda part: part[0]))
    text = "  ".join(text for _, text in parts)
    if len(text) > width:
      text = text.removeprefix("stage ")
    return text if len(text) <= width else text[: int(width) - 1] + "…"

  def _parts(self) -> Iterator[tuple[int, str]]:
    """(what goes first where there is no room, text)."""
    yield 0, self._title
    rate, left = self._rate(), self._left()
    if self._total is None:
      yield 2, terminal.duration(self._clock() - self._begun)
    else:
      yield 1, f"{self._step}/{self._total}"
    if self._total:
      yield 5, f"{100 * self._step / self._total:.0f} %"
    if rate:
      yield 6, _pace(rate)
    if left is not None:
      yield 2, f"{terminal.duration(left)} left"
    since = compilation.making_since()
    if since is not None and time.monotonic() - since > _SHOWN_AFTER:
      what = f"compiling {compilation.making()}".rstrip()
      yield 2, f"{what}, {time.monotonic() - since:.0f} s"
    if chain := self._chain_left(left):
      yield 3, chain
    if self._note:
      yield 4, self._note
    for n, name in enumerate(self._show):
      if name in self._metrics:
        yield 7 + n, f"{name} {terminal.number(self._metrics[name])}"

  def _elapsed(self) -> float:
    """Seconds since the start in which no program was made."""
    made = compilation.program_seconds() - self._made
    return max(0.0, self._clock() - self._begun - made)

  def _measured(self) -> tuple[int, float]:
    """(steps, their seconds) that a rate can be made of.

    The first step takes longer than the others, so it counts while it is the
    only one.
    """
    if not self._even or self._first is None:
      return 0, 0.0
    steps, seconds = self._first
    if self._step > steps:
      return self._step - steps, self._active - seconds
    return steps - self._start, seconds

  def _rate(self) -> float:
    """Steps a second, of those done here; 0 while there is none."""
    steps, seconds = self._measured()
    return steps / seconds if seconds > 0 else 0.0

  def _left(self) -> float | None:
    """Seconds until the last step; None after it, and where nobody knows."""
    if self.is_done:
      return None
    rate = self._rate()
    if self._total and rate:
      since = self._elapsed() - self._active
      return max(0.0, (self._total - self._step) / rate - since)
    expected = self._chain.seconds_of(self._part)
    if expected is None:
      return None
    if self._total:
      expected *= (self._total - self._start) / self._total
    left = expected - (self._clock() - self._begun)
    return left if left > 0 else None  # It was wrong, then.

  def _chain_left(self, own: float | None) -> str:
    """'chain about 2:05', with others 'chain 3/7 by 2 jobs, about 2:05'."""
    shared = self._chain.shared()
    left = self._chain.left(self._part, own or 0.0)
    seconds, complete = left or (0.0, True)
    if not seconds:
      return f"chain {shared}" if shared else ""
    is_waiting = not self._part.stage  # for others: nothing is done here
    known = own is not None or self.is_done or is_waiting
    complete = complete and known
    word = "about" if complete else "at least"
    end = f"{word} {terminal.duration(seconds)}"
    return f"chain {shared}, {end}" if shared else f"chain {end}"

  def _measure(self) -> None:
    """Tells the chain how fast work goes."""
    work = self._chain.cost_of(self._part).work
    steps, seconds = self._measured()
    if work and self._total and seconds > 0:
      self._chain.measure(self._part, work * steps / self._total, seconds)


def _pace(rate: float) -> str:
  if rate >= 100:
    return f"{rate:.0f}/s"
  return f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each"


def _length(parts: Sequence[tuple[int, str]]) -> int:
  return len("  ".join(text for _, text in parts))
