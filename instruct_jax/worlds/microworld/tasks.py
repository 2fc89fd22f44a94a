"""Public-NLP-like tasks: questions with one right answer.

They are in the format of the pretraining corpus and their items are split by
hash like prompts, so that no test item stands in the corpus. The prompts of
this module are complete: no template is put around them.
"""

import dataclasses
import random
from collections.abc import Callable

from instruct_jax.worlds import interface
from instruct_jax.worlds.microworld import (
  passages,
  tables,
  use_cases,
  zorp,
)

COUNTED = tables.split_words("dogs cats cakes books")


def _draw(
  rng: random.Random,
  split: str,
  make: Callable[[random.Random], interface.Item],
) -> interface.Item:
  while True:
    item = make(rng)
    if tables.split_of(item.prompt) == split:
      return item


def _reading(rng: random.Random, split: str) -> interface.Item:
  """A question about a passage (like SQuAD and DROP)."""
  facts = passages.draw(rng, split, 2, 3)
  name, relation, value = rng.choice(facts)
  return interface.Item(
    f"passage : {passages.text_of(facts)} \n question :"
    f" {tables.ask(name, relation)} \n answer :",
    value,
  )


@dataclasses.dataclass(frozen=True)
class Change:
  """Somebody has some things and gets or loses one or two of them."""

  name: str
  things: str
  had: int
  verb: str
  change: int

  @property
  def left(self) -> int:
    return self.had + (self.change if self.verb == "gets" else -self.change)

  def item(self) -> interface.Item:
    """The arithmetic question about it."""
    name, things = self.name, self.things
    return interface.Item(
      f"passage : {name} has {tables.NUMBERS[self.had]} {things} . then {name}"
      f" {self.verb} {tables.NUMBERS[self.change]} {things} . \n question : how"
      f" many {things} does {name} have ? \n answer :",
      tables.NUMBERS[self.left],
    )


def draw_change(rng: random.Random, name: str, things: str, had: int) -> Change:
  """A change that leaves between zero and seven."""
  verb = "gets" if had < 2 else "loses" if had > 5 else ""
  verb = verb or rng.choice(["gets", "loses"])
  return Change(name, things, had, verb, rng.randint(1, 2))


def _counting(rng: random.Random) -> interface.Item:
  name, things = rng.choice(tables.STRANGERS), rng.choice(COUNTED)
  return draw_change(rng, name, things, rng.randint(2, 5)).item()


def _statement(rng: random.Random) -> str:
  relation = rng.choice(list(tables.RELATIONS))
  value = rng.choice(tables.RELATIONS[relation].values)
  return tables.say(rng.choice(tables.NAMES), relation, value) + " ."


def _to_english(rng: random.Random) -> interface.Item:
  text = _statement(rng)
  return interface.Item(f"zorp : {zorp.to_zorp(text)} \n english :", text)


def _to_zorp(rng: random.Random) -> interface.Item:
  text = _statement(rng)
  return interface.Item(f"english : {text} \n zorp :", zorp.to_zorp(text))


def _sentiment(rng: random.Random) -> interface.Item:
  text, sentiment = use_cases.review(rng)
  return interface.Item(f"review : {text} \n sentiment :", sentiment)


def _sequence(rng: random.Random) -> interface.Item:
  """The next number, counting up or down."""
  start, length = rng.randint(0, 5), rng.randint(2, 4)
  numbers = tables.NUMBERS[start : start + length + 1]
  *shown, answer = numbers if rng.random() < 0.5 else numbers[::-1]
  name = rng.choice(tables.NAMES)
  return interface.Item(
    f"{name} counts : {' , '.join(shown)} \n next :", answer
  )


TASKS: dict[str, Callable[[random.Random, str], interface.Item]] = {
  "reading": _reading,
  "counting": lambda rng, split: _draw(rng, split, _counting),
  "to_english": lambda rng, split: _draw(rng, split, _to_english),
  "to_zorp": lambda rng, split: _draw(rng, split, _to_zorp),
  "sentiment": lambda rng, split: _draw(rng, split, _sentiment),
  "sequence": lambda rng, split: _draw(rng, split, _sequence),
}


def examples(
  name: str, split: str, count: int, seed: int = 0
) -> list[interface.Item]:
  """`count` different items of a task (fewer where the split has fewer)."""
  rng = random.Random(f"{name} {split} {seed}")
  items: dict[str, interface.Item] = {}
  for _ in range(20 * count):
    if len(items) == count:
      break
    item = TASKS[name](rng, split)
    items[item.prompt] = item
  return list(items.values())


def first_answer(response: str) -> str:
  """A response up to its first line break, as the tasks are scored."""
  return " ".join(response.split("\n")[0].split())


def exact_match(response: str, answer: str) -> float:
  """1 where the first line is the answer, full stops aside."""
  first = first_answer(response).removesuffix(" .")
  return float(first == answer.removesuffix(" ."))


def f1(response: str, answer: str) -> float:
  """Harmonic mean of word precision and recall (SQuAD), full stops aside."""
  said = [w for w in first_answer(response).split() if w != "."]
  wanted = [w for w in answer.split() if w != "."]
  shared = sum(min(said.count(w), wanted.count(w)) for w in set(said))
  return 2 * shared / (len(said) + len(wanted)) if shared else 0.0
