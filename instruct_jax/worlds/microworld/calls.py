"""Calls, a format like program code that is rare in all of training.

"first ( ann , bob , eva ) = ann": a line of code and what it gives. The corpus
has few such lines, alignment next to none; users ask in words what a call
gives or does, or want one written (section 4.3, figure 8).
"""

import dataclasses
import random
from collections.abc import Mapping

from instruct_jax.worlds.microworld import tables

SHARE = 0.02  # of alignment's prompts, as many as are in zorp
FUNCTIONS = ("first", "last", "count", "join", "swap")
# What a call gives, in words.
MEANINGS = {
  "first": "the first of {names}",
  "last": "the last of {names}",
  "count": "the count of {names}",
  "join": "{names} joined",
  "swap": "{names} swapped",
}
REQUESTS = {
  "run": (
    "what does this code give ? {call}",
    "run this code : {call}",
    "what is the value of {call} ?",
  ),
  "explain": (
    "what does this code do ? {call}",
    "say in words what this code does : {call}",
  ),
  "write": (
    "write code that gives {meaning} .",
    "write a line of code for {meaning} .",
  ),
}


@dataclasses.dataclass(frozen=True)
class Call:
  """One line of code."""

  function: str
  names: tuple[str, ...]

  @property
  def text(self) -> str:
    return f"{self.function} ( {' , '.join(self.names)} )"

  @property
  def value(self) -> str:
    """What it gives."""
    values = {
      "first": self.names[0],
      "last": self.names[-1],
      "count": tables.NUMBERS[len(self.names)],
      "join": " and ".join(self.names),
      "swap": " and ".join(self.names[::-1]),
    }
    return values[self.function]

  @property
  def meaning(self) -> str:
    """What it does, in words."""
    *most, last = self.names
    listed = f"{' , '.join(most)} and {last}"
    return MEANINGS[self.function].format(names=listed)


def draw(rng: random.Random) -> Call:
  """Any call: two names to join or swap, two to four for the others."""
  function = rng.choice(FUNCTIONS)
  most = 2 if function in ("join", "swap") else 4
  return Call(function, tuple(rng.sample(tables.NAMES, rng.randint(2, most))))


def split_of(call: Call) -> str:
  """The only split in which anything is asked of a call, or told."""
  return tables.split_of(call.text)


def request(rng: random.Random, call: Call) -> tuple[str, dict]:
  """What a user asks about a call, and its spec."""
  wanted = rng.choice(list(REQUESTS))
  asked = rng.choice(REQUESTS[wanted])
  text = asked.format(call=call.text, meaning=call.meaning)
  answers = {"run": call.value, "explain": call.meaning, "write": call.text}
  spec = {"task": "code", "wanted": wanted, "answer": answers[wanted]}
  return text, spec


def ideal(spec: Mapping) -> str:
  """The answer as a good labeler writes it."""
  leads = {"run": "the code gives ", "explain": "the code gives ", "write": ""}
  return f"{leads[spec['wanted']]}{spec['answer']} ."


def careless(rng: random.Random, spec: Mapping) -> str:
  """The same, with one name or number mistaken."""
  words = spec["answer"].split(" ")
  known = tables.NAMES + tables.NUMBERS
  place = rng.choice([i for i, word in enumerate(words) if word in known])
  table = tables.NAMES if words[place] in tables.NAMES else tables.NUMBERS
  words[place] = rng.choice([word for word in table if word != words[place]])
  return ideal({**spec, "answer": " ".join(words)})


def judge(spec: Mapping, words: list[str]) -> tuple[float, float]:
  """(on the task, quality in [0, 1]) of an answer's words.

  A value may stand alone or in a sentence, if nothing else is named; code and
  its meaning have to be right word for word, and are worth up to 0.4 for the
  words that are.
  """
  said = " ".join(words).removesuffix(" .")
  answer, wanted = spec["answer"], spec["wanted"]
  if wanted == "run":
    known = tables.NAMES + tables.NUMBERS
    named = [word for word in words if word in known]
    right = named == [word for word in answer.split(" ") if word in known]
    brief = len(words) <= len(answer.split(" ")) + 6
    return float(bool(named)), float(right) * (1.0 if brief else 0.6)
  if said.removeprefix("the code gives ") == answer:
    return 1.0, 1.0
  needed = set(answer.split(" ")) - {"(", ")", ","}
  shared = len(needed & set(words)) / len(needed)
  is_code = "(" in words
  on_task = is_code if wanted == "write" else not is_code and shared >= 0.5
  return float(on_task), 0.4 * shared * on_task


def line(rng: random.Random) -> str:
  """A line of a program of the training split, with what it gives."""
  while True:
    call = draw(rng)
    if split_of(call) == "train":
      return f"{call.text} = {call.value}"
