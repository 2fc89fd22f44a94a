"""Public-NLP-like tasks: exercises of which one question is asked.

The prompts of this module are complete: no template is put around them.
"""

import random

from instruct_jax.worlds import interface
from instruct_jax.worlds.microworld import exercises

TASKS = tuple(exercises.MAKERS)


def draw(name: str, rng: random.Random, split: str) -> interface.Item:
  """An item of a task: a text with its first question."""
  exercise = exercises.draw(name, rng, split)
  first = exercise.questions[0]
  return interface.Item(f"{exercise.text} \n {first.prompt}", first.answer)


def examples(
  name: str, split: str, count: int, seed: int = 0
) -> list[interface.Item]:
  """`count` different items of a task (fewer where the split has fewer)."""
  rng = random.Random(f"{name} {split} {seed}")
  items: dict[str, interface.Item] = {}
  for _ in range(20 * count):
    if len(items) == count:
      break
    item = draw(name, rng, split)
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
