"""Questions whose answer is one of a few, with answered ones before them.

A prompt is an instruction, the examples with their answers (`shots`), the
question; parts stand apart by an empty line.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from instruct_jax.measuring import choices, contract, shots, table
from instruct_jax.measuring import prompts as prompts_lib
from instruct_jax.scoring import tasks

SHOTS = {"shots": "answered examples before each item"}


@dataclasses.dataclass(frozen=True)
class Question:
  """What is asked, up to its answer, which is one of the choices."""

  shown: str
  choices: tuple[str, ...]
  answer: int
  group: str  # of questions that give each other away: no examples of another
  about: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def answered(self) -> str:
    """It as an example."""
    return f"{self.shown}{self.choices[self.answer]}\n\n"


Read = Callable[[str], Iterator[Question]]


@dataclasses.dataclass(frozen=True)
class Asked:
  """Questions with their prompts, and what of these was left out to fit."""

  questions: list[Question]
  prompts: list[str]
  counts: dict[str, int]


def asked(bench: contract.Bench, read: Read, instruction: str = "") -> Asked:
  """The questions that are wanted, and the prompt of each.

  Examples come from the file of the role `examples` where there is one, else
  from the questions' own; a prompt that a model cannot read with the longest
  answer loses some of them (`prompts`).
  """
  spec = bench.files["items"]
  everything = table.filled(read(spec), spec)

  def examples():
    other = bench.files.get("examples")
    pool = table.filled(read(other), other) if other else everything
    return [(one.group, one.answered) for one in pool]

  choose = shots.chooser(bench, examples)
  chosen = bench.some(everything)
  start = f"{instruction}\n\n" if instruction else ""
  parts = [
    prompts_lib.Prompt(start, choose(one.group), end=one.shown)
    for one in chosen
  ]
  kept = parts
  if any(one.examples for one in parts):
    said = list(dict.fromkeys(x for one in chosen for x in one.choices))
    longest = max(bench.model.lengths(said))
    kept = prompts_lib.fitted(bench.model, parts, longest)
  counts = prompts_lib.counts(parts, kept)
  return Asked(chosen, [one.text for one in kept], counts)


def measure(
  bench: contract.Bench, read: Read, instruction: str = ""
) -> contract.Measured:
  """Accuracy where the answers are the same few words for all questions.

  `accuracy` is by the log-probability of each answer; `accuracy_balanced` is
  the mean of the accuracies by right answer, which no constant answer moves.
  Standard errors by group.
  """
  given = asked(bench, read, instruction)
  questions = given.questions
  items = [
    choices.Item((prompt,), one.choices, one.answer, one.about)
    for one, prompt in zip(questions, given.prompts)
  ]
  groups = [one.group for one in questions]
  found = choices.measure(bench.model, items, clusters=groups)
  metrics = {"accuracy": found.metrics["accuracy"]}
  counts = collections.Counter(one.answer for one in questions)
  if len(counts) > 1:
    metrics["accuracy_balanced"] = _balanced(found.samples, counts, groups)
  answer, most = counts.most_common(1)[0]
  share = 100 * most / len(questions)
  name = questions[0].choices[answer].strip()
  note = f"always {name!r} would be right in {share:.1f} % of the items"
  return dataclasses.replace(
    found, metrics=metrics, counts=given.counts | found.counts, notes=(note,)
  )


def _balanced(samples, counts, groups) -> tasks.Estimate:
  """The mean, over the right answers there are, of the share that is right.

  As a mean over all items, each weighted by the inverse of how often its answer
  is the right one.
  """
  size = len(samples) / len(counts)
  values = [
    (row["taken"] == row["answer"]) * size / counts[row["answer"]]
    for row in samples
  ]
  return tasks.mean(values, groups)
