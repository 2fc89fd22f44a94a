"""WSC (Levesque et al. 2012), SuperGLUE's: what a pronoun refers to.

Read as SuperGLUE publishes it (`val.jsonl`: text, target, label; spans by the
number of their word), or as rows of its Hugging Face or TFDS form (span1_text,
span2_index, ... beside the text). Two measures, both by likelihood:

  accuracy         SuperGLUE's: does the pronoun refer to this noun, yes or no,
                   of every item, asked as lm-evaluation-harness does
  accuracy_chosen  the prompt of GPT-3 and InstructGPT: what does the pronoun
                   refer to; of the nouns that items with the same text and
                   pronoun name, where just one is right

Standard errors by text, since items share them. With shots, examples of the
second are right nouns alone, as GPT-3's are.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import choices, contract, questions, table

INSTRUCTION = (
  "Final Exam with Answer Key\nInstructions: Please carefully read the"
  " following passages. For each passage, you must identify which noun the"
  " pronoun marked in *bold* refers to.\n====="
)
_LABELS = {
  **{0: False, 1: True, "0": False, "1": True},
  **{"False": False, "True": True, "false": False, "true": True},
}
_SPANS = ("span1_text", "span2_text", "span2_index")


@dataclasses.dataclass(frozen=True)
class Item:
  """A noun that a pronoun of a text may refer to."""

  text: str  # the pronoun between stars
  pronoun: str
  noun: str
  is_right: bool

  @property
  def whether(self) -> questions.Question:
    """Whether it does."""
    return questions.Question(
      shown=f"Passage: {self.text}\nQuestion: In the passage above, does the"
      f' pronoun "*{self.pronoun}*" refer to "*{self.noun}*"?\nAnswer:',
      choices=(" no", " yes"),
      answer=int(self.is_right),
      group=self.text,
    )


def measure(bench: contract.Bench) -> contract.Measured:
  """Both measures."""
  found = questions.measure(bench, _whether)
  if not list(_which(bench.files["items"])):
    return found
  given = questions.asked(bench, _which, INSTRUCTION)
  asked = [
    choices.Item((prompt,), one.choices, one.answer, {"asked": "which"})
    for one, prompt in zip(given.questions, given.prompts)
  ]
  groups = [one.group for one in given.questions]
  which = choices.measure(bench.model, asked, clusters=groups)
  accuracy = {"accuracy_chosen": which.metrics["accuracy"]}
  counts = collections.Counter(found.counts)
  counts.update(which.counts)
  counts.update(given.counts)
  return dataclasses.replace(
    found,
    metrics=found.metrics | accuracy,
    samples=found.samples + which.samples,
    counts=dict(counts),
  )


def _whether(spec: str) -> Iterator[questions.Question]:
  return (item.whether for item in read(spec))


def _which(spec: str) -> Iterator[questions.Question]:
  """A question of each pronoun that several nouns are named for."""
  of_pronoun: dict[tuple[str, str], dict[str, bool]] = {}
  for item in read(spec):
    nouns = of_pronoun.setdefault((item.text, item.pronoun), {})
    nouns[item.noun] = nouns.get(item.noun, False) or item.is_right
  for (text, pronoun), nouns in of_pronoun.items():
    if len(nouns) > 1 and sum(nouns.values()) == 1:
      yield questions.Question(
        shown=f"Passage: {text}\nQuestion: In the passage above, what does the"
        f' pronoun "*{pronoun}*" refer to?\nAnswer:',
        choices=tuple(f" {noun}" for noun in nouns),
        answer=[*nouns.values()].index(True),
        group=text,
      )


def read(spec: str) -> Iterator[Item]:
  """The items of a file; those without a label (the test's) are no items."""
  for where, row in files.rows(spec):
    if row.get("label", -1) not in (-1, "-1"):
      yield _item(row, where)


def _item(row: Mapping[str, Any], where: str) -> Item:
  spans = row.get("target", row)
  if not isinstance(spans, Mapping):
    raise errors.UserError(
      f'{where}: "target" should be an object with {", ".join(_SPANS)}'
    )
  noun, pronoun = (table.text(spans, name, where) for name in _SPANS[:2])
  place = int(table.number(spans, "span2_index", where))
  label = row["label"]
  if isinstance(label, bool):
    row = {**row, "label": str(label)}
  return Item(
    text=_marked(table.text(row, "text", where), pronoun, place, where),
    pronoun=pronoun,
    noun=noun,
    is_right=table.one_of(row, "label", where, _LABELS),
  )


def _marked(text: str, pronoun: str, place: int, where: str) -> str:
  """The text with stars around the pronoun.

  By the number of its word; one of the published items is some words off, so
  the nearest word that begins so is taken.
  """
  words: Sequence[str] = text.split(" ")
  fits = [n for n, word in enumerate(words) if word.startswith(pronoun)]
  if not fits:
    raise errors.UserError(
      f'{where}: no word of "text" is {pronoun!r}, which "span2_text" names'
    )
  n = min(fits, key=lambda fit: abs(fit - place))
  rest = words[n][len(pronoun) :]
  return " ".join([*words[:n], f"*{pronoun}*{rest}", *words[n + 1 :]])


SET = contract.Set(
  about="WSC: what a pronoun refers to",
  files={
    "items": ("WSC/val.jsonl", "*wsc*/val*"),
    "examples": ("WSC/train.jsonl", "*wsc*/train*"),
  },
  published="https://super.gluebenchmark.com/tasks",
  headline="accuracy",
  optional=("examples",),
  options=questions.SHOTS,
  measure=measure,
)
