"""Rows with two responses and a verdict, by the keys that somebody names.

A response is a text; or messages, whose last is the answer and whose others are
its prompt; or, beside a prompt of several turns, the answers to them. Without
a prompt key, texts are dialogues in HH-RLHF's notation.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from instruct_jax.base import errors
from instruct_jax.data.public import dialogues, fields, formats, labels
from instruct_jax.data.read import files, tables, typed

NO_TEXT = "dropped: a response that is no text"
NO_LABEL = "dropped: no label"
ALONE = "dropped: no dialogue that holds a prompt (--prompt=KEY names one)"
FORGED = dialogues.FORGED


class Comparison(NamedTuple):
  """Two responses to a prompt, and what was said of them."""

  where: str
  prompt: str
  a: str
  b: str
  labeler: str
  label: str | int  # as it stands there; or a verdict
  key: str  # that the label stands under
  names: tuple[str, str] = ("", "")  # what a and b are called


@dataclasses.dataclass(frozen=True)
class Columns:
  """The keys that hold what a comparison is made of."""

  a: str = ""
  b: str = ""
  prompt: tuple[str, ...] = ()
  label: tuple[str, ...] = ()
  labeler: str = ""
  score_a: str = ""
  score_b: str = ""
  name_a: str = ""  # of what a is called; a label may be such a name
  name_b: str = ""
  better: str = ""  # 'a' or 'b' where one column always holds the better one
  turns: bool = False  # fields of tables hold lists as JSON

  def check(self) -> None:
    """Raises UserError for keys that are lacking or too many."""
    if not self.a or not self.b:
      raise errors.UserError(
        "pairs: --a=KEY and --b=KEY should name the two responses"
      )
    if self.score_a and self.score_a == self.score_b:
      raise errors.UserError(
        f"pairs: --score_a and --score_b are both {self.score_a}; two keys are"
        " right"
      )
    fields.check_apart(
      ("--a", self.a), ("--b", self.b), *(("--prompt", x) for x in self.prompt)
    )
    if bool(self.score_a) != bool(self.score_b):
      raise errors.UserError("pairs: --score_a and --score_b go together")
    if bool(self.name_a) != bool(self.name_b):
      raise errors.UserError("pairs: --name_a and --name_b go together")
    ways = [bool(self.label), bool(self.score_a), bool(self.better)]
    if sum(ways) != 1:
      raise errors.UserError(
        "pairs: who won should be said in one way: --label=KEY; or"
        " --score_a=KEY and --score_b=KEY, of which the higher wins; or"
        " --better=a where --a always holds the better one (chosen, rejected)"
      )
    if self.better not in ("", "a", "b"):
      raise errors.UserError(f"--better={self.better}: a or b is right")
    if self.labeler and len(self.label) > 1:
      raise errors.UserError(
        "pairs: with several --label each is a labeler of its own; leave"
        " --labeler out"
      )
    for key in self._options():
      fields.steps(key)

  def _options(self) -> dict[str, str]:
    """{key: the option that names it}."""
    named = {
      self.a: "--a",
      self.b: "--b",
      self.labeler: "--labeler",
      self.score_a: "--score_a",
      self.score_b: "--score_b",
      self.name_a: "--name_a",
      self.name_b: "--name_b",
      **dict.fromkeys(self.prompt, "--prompt"),
      **dict.fromkeys(self.label, "--label"),
    }
    return {key: option for key, option in named.items() if key}

  def comparisons(
    self, rows: files.Rows, counts: formats.Counts
  ) -> Iterator[Comparison]:
    """The comparisons of rows; what is dropped is counted.

    Raises UserError for a key that no row has.
    """
    for where, row in formats.with_keys(rows, self._options(), counts):
      asked = self._asked(row, where, counts)
      if asked is not None:
        yield from self._judged(row, where, asked, counts)

  def _judged(
    self,
    row: Mapping[str, Any],
    where: str,
    asked: tuple[str, str, str],
    counts: formats.Counts,
  ) -> Iterator[Comparison]:
    """A comparison for each label of a row."""
    prompt, a, b = asked
    labeler, names = "", self._names(row)
    if self.labeler:
      labeler = labels.name_of(fields.value(row, self.labeler))
    for key in self.label:
      label = labels.name_of(fields.value(row, key))
      if label and self.name_a:
        label = self._by_name(names, label)
      if label != "":
        who = key if len(self.label) > 1 else labeler
        yield Comparison(where, prompt, a, b, who, label, key, names)
      else:
        counts[NO_LABEL] += 1
    if self.better:
      verdict = labels.A if self.better == "a" else labels.B
      yield Comparison(where, prompt, a, b, labeler, verdict, "", names)
    if self.score_a:
      one, other = (
        _score(fields.value(row, key), key, where)
        for key in (self.score_a, self.score_b)
      )
      if one is None or other is None:
        counts[NO_LABEL] += 1
      else:
        verdict = (one > other) - (one < other)
        yield Comparison(where, prompt, a, b, labeler, verdict, "", names)

  def _names(self, row: Mapping[str, Any]) -> tuple[str, str]:
    if not self.name_a:
      return "", ""
    a, b = (fields.value(row, key) for key in (self.name_a, self.name_b))
    return labels.name_of(a), labels.name_of(b)

  def _by_name(self, names: tuple[str, str], label: str) -> str | int:
    """The verdict of a label that is the name of one of the two."""
    a, b = (label == name for name in names)
    return label if a == b else labels.A if a else labels.B

  def _asked(
    self, row: Mapping[str, Any], where: str, counts: formats.Counts
  ) -> tuple[str, str, str] | None:
    """(prompt, a, b) of a row; None, and counted, where there are none."""
    parts = [self._value(row, key) for key in self.prompt]
    a, b = self._value(row, self.a), self._value(row, self.b)
    every = (a, b, *parts)
    if parts and all(isinstance(x, str) for x in every):  # nearly all are
      asked, a, b = _joined(parts), a.strip(), b.strip()
    else:
      one, other = _side(parts, a, where), _side(parts, b, where)
      wrong = one.wrong or other.wrong
      if not wrong and one.prompt != other.prompt:
        wrong = formats.DIFFER
      if wrong:
        counts[wrong] += 1
        return None
      asked, a, b = one.prompt, one.response, other.response
    if asked and a != b:
      return asked, a, b
    counts[formats.SAME if asked else formats.NO_PROMPT] += 1
    return None

  def _value(self, row: Mapping[str, Any], key: str) -> Any:
    """A value, of a table a list where its fields hold such."""
    value = fields.value(row, key)
    if self.turns and isinstance(value, tables.Cell):
      return tables.value_of(value, list)
    return value


def _side(parts: list[Any], value: Any, where: str) -> dialogues.Conversation:
  """The prompt and the response of one side."""
  if isinstance(value, dict):  # one message
    value = next(
      (
        value[x]
        for x in ("content", "value", "text")
        if isinstance(value.get(x), str)
      ),
      None,
    )
  if isinstance(value, list) and value and isinstance(value[0], dict):
    if len(value) > 1:  # a conversation, with its prompt
      return dialogues.conversation(value, where)
    return _side(parts, value[0], where)
  if isinstance(value, list):
    return _turns(parts, value)
  if not isinstance(value, str):
    return dialogues.Conversation(wrong=NO_TEXT)
  if not parts:
    prompt, response = dialogues.split(value)
    wrong = "" if response else formats.NO_RESPONSE
    return dialogues.Conversation(prompt, response, wrong if prompt else ALONE)
  if len(parts) == 1 and isinstance(parts[0], list):
    if parts[0] and all(isinstance(x, dict) for x in parts[0]):
      answer = {"role": "assistant", "content": value}
      return dialogues.conversation([*parts[0], answer], where)
    if len(parts[0]) == 1 and isinstance(parts[0][0], str):
      parts = parts[0]
  return dialogues.Conversation(_joined(parts), value.strip())


def _turns(parts: list[Any], answers: list[Any]) -> dialogues.Conversation:
  """What was asked turn by turn, with the answers before the last."""
  asked = parts[0] if len(parts) == 1 else None
  asked = [asked] if isinstance(asked, str) else asked
  every = [*(asked or []), *answers]
  if (
    not isinstance(asked, list)
    or len(asked) != len(answers)
    or not all(isinstance(x, str) for x in every)
  ):
    return dialogues.Conversation(wrong=NO_TEXT)
  if len(asked) == 1:
    return dialogues.Conversation(asked[0].strip(), answers[0].strip())
  if dialogues.is_forged(every[:-1]):
    return dialogues.Conversation(wrong=FORGED)
  turns = []
  for question, answer in zip(asked, answers):
    turns += [(dialogues.HUMAN, question.strip())]
    turns += [(dialogues.ASSISTANT, answer.strip())]
  return dialogues.Conversation(
    dialogues.prompt_of(turns[:-1]), answers[-1].strip()
  )


def _joined(parts: list[Any]) -> str:
  """The parts of a prompt that are texts, a blank line between."""
  if len(parts) == 1:
    return parts[0].strip() if isinstance(parts[0], str) else ""
  texts = (x.strip() for x in parts if isinstance(x, str))
  return "\n\n".join(x for x in texts if x)


def _score(value: Any, key: str, where: str) -> float | None:
  """A number; None where there is none."""
  if isinstance(value, str):  # of a table, or a number between quotes
    value = tables.value_of(value, float) if value.strip() else None
  if value is None:
    return None
  if isinstance(value, int | float) and math.isfinite(value):
    return float(value)
  if isinstance(value, str) and value.lower() in ("true", "false"):
    return float(value.lower() == "true")
  raise errors.UserError(
    f'{where}: "{key}" should be a number, not {typed.shown(value)}'
  )
