"""What a finding is, and how one is added.

A group of findings is a module of this room that ends in

  FINDINGS = (kl_negative, kl_exploding, ...)

each a function (record.Record) -> Finding | None that reads what it needs from
one run and is silent where that is not there: what cannot be judged is not
accused. Its docstring says where its threshold comes from: the paper, the
literature, or the spread over healthy runs, by which these are meant: three
seeds each of eight experiments of `:tiny` (PPO, PPO-ptx, RLOO, GRPO, DPO,
best-of-n, expert iteration, two rounds), and their reward models and SFT.
"""

import dataclasses
from collections.abc import Callable

from instruct_jax.doctor import record


@dataclasses.dataclass(frozen=True)
class Finding:
  """Something that is wrong with a run."""

  name: str
  evidence: str  # which metric, at which step, with its numbers
  remedy: str  # what the paper or the field does about it, with the source
  # Findings that explain this one: where one of them is there, too, this is
  # named in that one's evidence in place of standing beside it.
  follows: tuple[str, ...] = ()
  since: int = 0  # of two that explain each other, the earlier one does


Find = Callable[[record.Record], Finding | None]
