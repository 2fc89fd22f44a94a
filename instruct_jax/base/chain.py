"""Everything that a command has to do, and how long that will take.

A chain has parts (the job of a stage, its evaluation). What is known of a
part's cost is an earlier run's seconds, or its work, which is then compared
with the work that the chain has done so far and the seconds that took. Making
programs is counted apart. Other jobs may work on the same chain: what they have
done and what they do now counts as well.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

from instruct_jax.base import compilation, schedule

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


@dataclasses.dataclass(frozen=True)
class Others:
  """What is seen of the other jobs that work on a chain."""

  done: Collection[str] = ()  # stages, by whomever
  running: Mapping[str, float] = dataclasses.field(default_factory=dict)
  """Seconds for which others have worked on a stage by now, by stage."""
  jobs: int = 1  # with this one


class Chain:
  """Everything that a command has to do, in its order."""

  def __init__(
    self,
    parts: Sequence[Part] = (),
    needs: Mapping[str, Collection[str]] | None = None,
    watch: Callable[[], Others] = Others,
  ):
    """A chain of parts, those of a stage together, after those it needs.

    `needs` says which stages a stage needs, by default all that come before:
    then they are done in this order. `watch` says what other jobs have done.
    """
    self._parts = tuple(parts)
    self._stages = list(dict.fromkeys(part.stage for part in parts))
    self._in_order = needs is None
    self._needs = {
      stage: self._stages[:number] if needs is None else needs[stage]
      for number, stage in enumerate(self._stages)
    }
    self._watch = watch
    self._ended: set[Part] = set()
    self._numbers: dict[str, int] = {}
    self._measured: dict[Part, tuple[float, float]] = {}  # work, its seconds
    self._programs: dict[Part, float] = {}  # seconds, of what was done
    self._begun: float | None = None  # seconds of programs before this part
    self._costs: dict[Part, Cost] = {}

  def find(self, stage: str, name: str) -> Part:
    """The part of that name, or one that stands outside of the chain."""
    known = (p for p in self._parts if (p.stage, p.name) == (stage, name))
    return next(known, Part(stage, name))

  def begin(self, part: Part) -> None:
    """A part begins: costs are estimated anew."""
    self._begun = compilation.program_seconds()
    if self._in_order and part in self._parts:
      self._ended.update(self._parts[: self._parts.index(part)])
    self.estimate()

  def estimate(self) -> None:
    """Asks anew what parts cost."""
    self._costs = {each: each.estimate() for each in self._parts}

  def end(self, part: Part) -> None:
    """A part is done."""
    self._ended.add(part)
    if self._begun is not None:
      self._programs[part] = compilation.program_seconds() - self._begun
    self._begun = None

  def cost_of(self, part: Part) -> Cost:
    """What is known of the cost of a part."""
    return self._costs.get(part, Cost())

  def title(self, stage: str) -> str:
    """'stage 3/7 ', the third that was begun; '' for what is in no chain."""
    if stage not in self._stages:
      return ""
    if stage not in self._numbers:
      others = self._watch()
      ended = {s for s in self._stages if not self._parts_of(s)}
      begun = {*others.done, *others.running, *self._numbers, *ended} - {stage}
      self._numbers[stage] = 1 + len(begun.intersection(self._stages))
    return f"stage {self._numbers[stage]}/{len(self._stages)} "

  def shared(self) -> str:
    """'3/7 by 2 jobs', the stages done by whomever; '' of a job alone."""
    others = self._watch()
    if others.jobs < 2:
      return ""
    done = sum(self._is_done(stage, others) for stage in self._stages)
    return f"{done}/{len(self._stages)} by {others.jobs} jobs"

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

  def ways(self) -> dict[str, float]:
    """Seconds from each stage to the end, as far as they are known."""
    seconds = {stage: self._left_of(stage)[0] for stage in self._stages}
    return schedule.ways(self._needs, seconds)

  def left(self, part: Part, own: float = 0.0) -> tuple[float, bool] | None:
    """(seconds until the end of all, whether that counts everything).

    None where nothing is left but this part, which takes `own` seconds.
    """
    others = self._watch()
    rest = [s for s in self._stages if not self._is_done(s, others)]
    if not any(self._parts_of(stage, part) for stage in rest):
      return None
    seconds, complete = {}, True
    for stage in rest:
      seconds[stage], is_known = self._left_of(stage, part)
      complete = complete and is_known
    running = {s: t for s, t in others.running.items() if s in seconds}
    for stage, since in running.items():
      seconds[stage] = max(0.0, seconds[stage] - since)
    if not any(seconds.values()):
      return 0.0, complete
    jobs = max(others.jobs, len({*running, part.stage}))
    if part.stage in seconds:
      seconds[part.stage] += own
      running[part.stage] = 0.0
    needs = {s: [n for n in self._needs[s] if n in seconds] for s in rest}
    return schedule.end(needs, seconds, running=running, jobs=jobs), complete

  def _parts_of(self, stage: str, but: Part | None = None) -> list[Part]:
    """Those parts of a stage that are not done."""
    return [
      part
      for part in self._parts
      if part.stage == stage and part not in self._ended and part != but
    ]

  def _left_of(self, stage: str, but: Part | None = None) -> tuple[float, bool]:
    costs = [self.seconds_of(part) for part in self._parts_of(stage, but)]
    known = [cost for cost in costs if cost is not None]
    return sum(known), len(known) == len(costs)

  def _is_done(self, stage: str, others: Others) -> bool:
    return stage in others.done or not self._parts_of(stage)
