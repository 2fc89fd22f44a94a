"""Passages: made-up facts about strangers, which closed-domain prompts read."""

import random
from collections.abc import Iterable

from instruct_jax.worlds.microworld import tables


def draw_any(rng: random.Random, people: int, facts: int) -> list[tables.Fact]:
  """Made-up facts about strangers, every relation at most once."""
  names = rng.sample(tables.STRANGERS, people)
  relations = rng.sample(list(tables.RELATIONS), facts)
  owners = names + [rng.choice(names) for _ in range(facts - people)]
  rng.shuffle(owners)
  return [
    (name, relation, rng.choice(tables.RELATIONS[relation].values))
    for name, relation in zip(owners, relations)
  ]


def text_of(facts: Iterable[tables.Fact]) -> str:
  return " . ".join(tables.say(*fact) for fact in facts) + " ."


def split_of(facts: Iterable[tables.Fact]) -> str:
  """The split of a passage, whatever the order of its facts."""
  return tables.split_of(
    "passage " + " ".join(sorted(tables.say(*f) for f in facts))
  )


def draw(
  rng: random.Random, split: str, people: int, facts: int
) -> list[tables.Fact]:
  """A passage of the split."""
  while True:
    drawn = draw_any(rng, people, facts)
    if split_of(drawn) == split:
      return drawn
