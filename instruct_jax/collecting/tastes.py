"""What simulated labelers think: of tasks, as the page shows them.

To a prompt of the microworld (its record has the "spec" that the world's judge
reads) they say what the world's labelers do: ranks by one of the ten training
or five held-out personas, ratings and flags of table 3 by the judge, the ideal
answer as a demonstration. To any other prompt they have a simple taste, which
is no person's:

  worth = length + overlap - repetition + noise
    length      of the response in words, as a share of 60, at most 1
    overlap     share of the prompt's words that the response has
    repetition  share of the response's words that it has said before
    noise       normal, standard deviation 0.25; a hash of seed, labeler, prompt
                and response, so that the same is said of the same again

Ranks order it, the rating is 1 + 4 worth within 1 to 7, and what shares no word
with its prompt fails the instruction; a demonstration takes up the prompt's
words. Prompts that they write are the microworld's. K responses of a list.
"""

import dataclasses
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from instruct_jax import paper
from instruct_jax.labeling import rankers
from instruct_jax.worlds.microworld import answers, judge, labelers, prompts

Answer = dict[str, Any]
Page = Mapping[str, Any]  # a task as the server gives it, in the shown order
NOISE = 0.25
_FEW, _LONGEST = 3, 60
_OURS = {"wrong_task": "fails_instruction"}  # paper.METADATA, the judge's flag
_REPEATED = "{} {} ."


@dataclasses.dataclass(frozen=True)
class Taste:
  """One simulated labeler: the `number`-th of a group, from 0."""

  name: str
  group: str  # 'training' or 'held_out'
  number: int
  seed: int = 0

  @property
  def persona(self) -> labelers.Labeler:
    """Who of the microworld's labelers this one is."""
    panel = labelers.GROUPS[self.group]()
    return panel[self.number % len(panel)]

  def answer(self, page: Page, record: Mapping[str, Any]) -> Answer:
    """The answer to a page of any kind; `record` is what its task came with."""
    if page["kind"] == "demonstration":
      return {"response": self.demonstrate(page["prompt"], record)}
    if page["kind"] == "writing":
      return self.write(page["form"], page["assignment"])
    texts = page["responses"]
    ranks, ratings, metadata = self.judge(page["prompt"], texts, record)
    if page["kind"] == "comparison":
      return {"choice": choice(ranks)}
    return {"ranks": ranks, "ratings": ratings, "metadata": metadata}

  def judge(
    self, prompt: str, texts: Sequence[str], record: Mapping[str, Any]
  ) -> tuple[list[int], list[int], list[dict[str, bool]]]:
    """Ranks, ratings and flags [K] of the responses.

    `record["ended"]` may be {text: whether it ended by itself}; all did that
    it does not name.
    """
    if spec := spec_of(record):
      ended = record.get("ended") or {}
      grades = [judge.grade(spec, t, ended.get(t, True)) for t in texts]
      ranks = self.persona.rank(prompt, texts, grades)
      ratings = [round(grade["likert"]) for grade in grades]
      return ranks, ratings, [flags(grade) for grade in grades]
    worth = [self.worth(prompt, text) for text in texts]
    shares = [overlap(prompt, text) for text in texts]
    return (
      rankers.ranks_of(worth),
      [int(np.clip(round(1 + 4 * value), 1, 7)) for value in worth],
      [{**flags({}), "wrong_task": share == 0.0} for share in shares],
    )

  def worth(self, prompt: str, text: str) -> float:
    """The simple taste, about 0 to 2; see above."""
    words = text.split()
    length = min(1.0, len(words) / _LONGEST)
    again = 1 - len(set(words)) / len(words) if words else 0.0
    noise = NOISE * self._rng(prompt, text).gauss(0, 1)
    return length + overlap(prompt, text) - again + noise

  def demonstrate(self, prompt: str, record: Mapping[str, Any]) -> str:
    """An answer: the microworld's ideal one, else the prompt's own words."""
    rng = self._rng(prompt, "demonstration")
    if spec := spec_of(record):
      return answers.ideal(rng, spec)
    words = list(dict.fromkeys(prompt.split())) or ["nothing"]
    rng.shuffle(words)
    return _REPEATED.format(f"{self.name} says:", " ".join(words[:_LONGEST]))

  def write(self, form: str, number: int) -> Answer:
    """A prompt of the microworld in one of the paper's three forms."""
    rng = self._rng(form, str(number))
    asked = prompts.draw(rng, "train")
    if form == "plain":
      return {"prompt": asked.text}
    if form == "user_based":
      return {"prompt": asked.text, "use_case": asked.use_case}
    same = [
      prompts.draw(rng, "train", use_case=asked.use_case) for _ in range(_FEW)
    ]
    return {
      "instruction": f"answer these as one would in {asked.use_case} .",
      "examples": [
        {"query": one.text, "response": answers.ideal(rng, one.spec)}
        for one in same
      ],
    }

  def _rng(self, *words: str) -> random.Random:
    key = "\0".join((str(self.seed), self.name, *words))
    return random.Random(hashlib.blake2b(key.encode(), digest_size=8).digest())


def spec_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
  """What the microworld's judge has to know; None of any other prompt."""
  try:
    spec = json.loads(record.get("spec") or "")
  except (TypeError, ValueError):
    return None
  known = isinstance(spec, dict) and spec.get("task") in answers.IDEAL
  return spec if known else None


def overlap(prompt: str, text: str) -> float:
  """The share of the prompt's words that a response has."""
  asked = set(prompt.lower().split())
  return len(asked & set(text.lower().split())) / max(1, len(asked))


def choice(ranks: Sequence[int]) -> str:
  """What ranks [2] are as the choice of a comparison: a, b or tie."""
  first, second = ranks
  return "tie" if first == second else "a" if first < second else "b"


def flags(grade: Mapping[str, float]) -> dict[str, bool]:
  """Table 3's eleven flags, of the judge's; what it does not name is False."""
  return {
    flag: bool(grade.get(_OURS.get(flag, flag), 0)) for flag in paper.METADATA
  }
