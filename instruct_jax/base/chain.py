"""Everything that a command has to do, and how long that will take.

A chain has parts (the job of a stage, its evaluation). What is known of a
part's cost is an earlier run's seconds, or its work, which is then compared
with the work that the chain has done so far and the seconds that took. Making
programs is counted apart.
"""

import dataclasses
from collections.abc import Callable, Sequence

from instruct_jax.base import compilation

_LITTLE = 0.5  # seconds; a part with less of programs has none


@dataclasses.dataclass(frozen=True)
class Cost:
  """What a part of a chain will take, as far as is known."""

  seconds: float | None = None  # from an earlier run
  work: float | None = None  # in any unit that all parts share


@dataclasses.dataclass(frozen=True)
class Part:
  """The job of a stage, or another thing that is done for it (`name`).

  `estimate` is asked again whenever a part begins: by then more may be known.
  """

  stage: str
  name: str = ""
  estimate: Callable[[], Cost] = Cost


class Chain:
  """Everything that a command has to do, in its order."""

  def __init__(self, parts: Sequence[Part] = ()):
    self._parts = tuple(parts)
    self._stages = list(dict.fromkeys(part.stage for part in parts))
    self._measured: dict[Part, tuple[float, float]] = {}  # work, its seconds
    self._programs: dict[Part, float] = {}  # seconds, of what was done
    self._begun: float | None = None  # seconds of programs before this part
    self._costs: dict[Part, Cost] = {}

  def find(self, stage: str, name: str) -> Part:
    """The part of that name, or one that stands outside of the chain."""
    known = (p for p in self._parts if (p.stage, p.name) == (stage, name))
    return next(known, Part(stage, name))

  def begin(self) -> None:
    """A part begins: costs are estimated anew."""
    self._begun = compilation.program_seconds()
    self._costs = {each: each.estimate() for each in self._parts}

  def end(self, part: Part) -> None:
    """A part is done."""
    if self._begun is not None:
      self._programs[part] = compilation.program_seconds() - self._begun
    self._begun = None

  def cost_of(self, part: Part) -> Cost:
    """What is known of the cost of a part."""
    return self._costs.get(part, Cost())

  def title(self, stage: str) -> str:
    """'stage 3/7 '; '' for what is not in the chain."""
    if stage not in self._stages:
      return ""
    number = self._stages.index(stage) + 1
    return f"stage {number}/{len(self._stages)} "

  def measure(self, part: Part, work: float, seconds: float) -> None:
    """Keeps how long so much of the work of a part has taken."""
    self._measured[part] = work, seconds

  def seconds_of(self, part: Part) -> float | None:
    """What a part will take, programs included; None where nothing is known.

    Without an earlier run: by the pace of what has been measured so far, and
    with the programs of a part as seen so far.
    """
    cost = self.cost_of(part)
    if cost.seconds is not None:
      return cost.seconds
    work = sum(work for work, _ in self._measured.values())
    seconds = sum(seconds for _, seconds in self._measured.values())
    if cost.work is None or not work:
      return None
    return cost.work * seconds / work + self._usual_programs()

  def _usual_programs(self) -> float:
    """Seconds that the programs of a part have taken, where it had any."""
    taken = list(self._programs.values())
    if self._begun is not None:
      taken.append(compilation.program_seconds() - self._begun)
    taken = [seconds for seconds in taken if seconds > _LITTLE]
    return sum(taken) / len(taken) if taken else 0.0

  def later(self, part: Part) -> tuple[float, bool] | None:
    """(seconds of what comes after a part, whether that is all of it)."""
    if part not in self._parts:
      return None
    after = self._parts[self._parts.index(part) + 1 :]
    costs = [self.seconds_of(each) for each in after]
    known = [cost for cost in costs if cost is not None]
    return (sum(known), len(known) == len(costs)) if after else None
