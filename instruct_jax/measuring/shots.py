"""Which answered examples stand before a question.

The same ones before all questions, as far as may be: those that the seed draws
first from other passages than the question's own.
"""

import random
from collections.abc import Callable, Iterable

from instruct_jax.base import errors
from instruct_jax.measuring import contract, options


def chooser(
  bench: contract.Bench, examples: Callable[[], Iterable[tuple[str, str]]]
) -> Callable[[str], tuple[str, ...]]:
  """A function: the examples for a question of the given group.

  `examples()` is asked only where there are to be some: (group, text) of all
  that may be drawn. What depends on each other (the questions of a passage, an
  item with itself) has one group: of each at most one example is drawn, and
  none for a question of the same.

  Raises UserError where there are too few.
  """
  count = options.whole(bench, "shots", 0)
  if not count:
    return lambda group: ()
  known = list(examples())
  rng = random.Random(f"{bench.settings.seed} {bench.name} shots")
  rng.shuffle(known)
  drawn: dict[str, str] = {}
  for group, text in known:
    if len(drawn) > count:  # one more: a question's own may be among them
      break
    drawn.setdefault(group, text)

  def choose(group: str) -> tuple[str, ...]:
    others = [text for other, text in drawn.items() if other != group]
    if len(others) < count:
      raise errors.UserError(
        f"--set_option {bench.name}.shots={count}: only {len(others)} examples"
        " stand beside a question; ask for fewer, or name a file of more"
      )
    return tuple(others[:count])

  return choose
