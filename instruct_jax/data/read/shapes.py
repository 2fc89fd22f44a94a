"""Well-known shapes of rows, and the command that makes records of each.

For the error about a row that is none of ours: it says what to type.
"""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]

_RANKINGS, _DEMONSTRATIONS = "rankings", "demonstrations"
# (what it is, the keys that all its rows have, the format, what that makes).
_FORMATS = (
  ("PandaLM", ("response1", "response2", "annotator1"), "pandalm", _RANKINGS),
  ("LLMBar", ("input", "output_1", "output_2", "label"), "llmbar", _RANKINGS),
  ("TL;DR", ("info", "summaries", "choice"), "tldr", _RANKINGS),
  ("FineGrained", ("question", "prediction 1"), "finegrained", _RANKINGS),
  ("UltraFeedback", ("completions",), "ultrafeedback", _RANKINGS),
  ("OpenAssistant", ("message_tree_id",), "oasst", _RANKINGS),
  ("self-instruct", ("instances",), "self_instruct", _DEMONSTRATIONS),
  ("chat messages", ("messages",), "chat", _DEMONSTRATIONS),
  ("chat messages", ("conversations",), "chat", _DEMONSTRATIONS),
  ("Alpaca", ("instruction", "output"), "alpaca", _DEMONSTRATIONS),
  ("Dolly", ("instruction", "response"), "dolly", _DEMONSTRATIONS),
  ("T0", ("prompt", "completion"), "t0", _DEMONSTRATIONS),
)
_ASKED = ("prompt", "question", "instruction", "query", "input", "context")
_ANSWERS = ("answer", "response", "output", "completion", "target", "reply")
_TEXTS = ("content", "document", "article", "body")
_LABELS = ("winner", "label", "preference", "preferred", "choice", "better")
_LABELERS = ("labeler", "annotator", "judge", "worker", "rater")
_NOUNS = ("conversation", "response", "answer", "output", "completion", "text")
_SIDES = [
  *((f"{noun}_{a}", f"{noun}_{b}") for noun in _NOUNS for a, b in ("ab", "12")),
  *((f"{noun}{a}", f"{noun}{b}") for noun in _NOUNS for a, b in ("AB", "12")),
  ("a", "b"),
]


def hint(row: Row, unit: Any, kind: str) -> str:
  """What a row looks like and the command that converts its file, or ''.

  `kind` is what its records should have been.
  """
  for what, command, makes in _fitting(row):
    other = ""
    if kind and makes != kind:
      other = f", which would be {makes} and not {kind},"
    form, _, flags = command.partition(" ")
    flags = f" {flags}" if flags else ""
    return (
      f". It looks like {what}{other} to be converted: python -m"
      f" instruct_jax.data convert {form} {shlex.quote(str(unit))}{flags}"
      f" --out={makes}.jsonl"
    )
  return ""


def _fitting(row: Row) -> Iterable[tuple[str, str, str]]:
  """(what it is, format and flags, kind) of every shape that fits."""
  asked = _first(_ASKED, row)
  prompt = f" --prompt={shlex.quote(asked)}" if asked else ""
  if {"chosen", "rejected"} <= row.keys():
    yield "chosen and rejected answers", _chosen(row, prompt), _RANKINGS
  for what, keys, form, makes in _FORMATS:
    if all(key in row for key in keys):
      yield what, form, makes
  lower = {name.lower(): name for name in list(row)[::-1]}
  for a, b in _SIDES:
    if a.lower() in lower and b.lower() in lower:
      a, b = lower[a.lower()], lower[b.lower()]
      label = _first(_LABELS, row) or "KEY"
      flags = f"--a={a} --b={b} --label={shlex.quote(label)}"
      labeler = _first(_LABELERS, row)
      who = f" --labeler={shlex.quote(labeler)}" if labeler else ""
      yield "comparisons", f"pairs{prompt} {flags}{who}", _RANKINGS
  answer = _first(_ANSWERS, row)
  if asked and answer:
    flags = f"--response={shlex.quote(answer)}"
    yield "questions and answers", f"columns{prompt} {flags}", _DEMONSTRATIONS
  text = _first(_TEXTS, row)
  if text:
    flags = f"--kind=pretraining --text={shlex.quote(text)}"
    yield "documents", f"columns {flags}", "pretraining"


def _chosen(row: Row, prompt: str) -> str:
  """The format of answers in pairs: dialogues, messages, or texts alone."""
  chosen = row["chosen"]
  if isinstance(chosen, list):
    return "ultrafeedback"
  if isinstance(chosen, str) and "\n\nAssistant:" in chosen:
    return "hh"
  asked = prompt or " --prompt=KEY"
  return f"pairs{asked} --a=chosen --b=rejected --better=a"


def _first(names: Iterable[str], row: Row) -> str:
  """The row's own spelling of the first of some names that it has, or ''."""
  lower = {name.lower(): name for name in list(row)[::-1]}
  return next((lower[name] for name in names if name in lower), "")
