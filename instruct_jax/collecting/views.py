"""What the templates of labelers' pages are filled with.

Everything is in the order shown, under the letters that the page has.
"""

import datetime
import re
from collections.abc import Mapping
from typing import Any

from instruct_jax.collecting import forms, showing, store, tokens

LETTERS = "ABCDEFGHI"
_TITLES = {
  "demonstration": "Write an answer",
  "ranking": "Rank answers",
  "comparison": "Compare two answers",
  "writing": "Write a prompt",
}
_EXAMPLES = 3  # of a few-shot prompt that are seen; there is room for more


def task(
  assignment: store.Assignment, given: Mapping[str, Any]
) -> dict[str, Any]:
  """A task, filled with what was given as an answer to it before."""
  content = assignment.content
  pairs = list(given.get("examples", []))
  empty = [{"query": "", "response": ""}] * (forms.EXAMPLES - len(pairs))
  return {
    "assignment": assignment.id,
    # A page has one name for its answer, however often that is sent.
    "submission": tokens.new(),
    "kind": assignment.kind,
    "title": _TITLES[assignment.kind],
    "is_screening": assignment.is_screening,
    "prompt": showing.prompt_of(content),
    "responses": _cards(assignment, given),
    "form": content.get("form", ""),
    "hint": content.get("hint") or "",
    "examples": pairs + empty,
    "seen": max(_EXAMPLES, len(pairs)),
  }


def in_shown_order(assignment: store.Assignment, key: str) -> list[Any]:
  """A list of the task's content in the order in which it is shown."""
  values = assignment.content.get(key)
  return [values[n] for n in assignment.display] if values else []


def _cards(assignment: store.Assignment, given: Mapping[str, Any]) -> list:
  texts = in_shown_order(assignment, "responses")
  ended = in_shown_order(assignment, "ended") or [None] * len(texts)

  def of(field, n, otherwise):
    values = given.get(field) or []
    return values[n] if n < len(values) else otherwise

  return [
    {
      "letter": LETTERS[n],
      "text": text,
      "ended": ended[n],
      "rating": of("ratings", n, None),
      "ticked": frozenset(k for k, x in of("metadata", n, {}).items() if x),
      "rank": of("ranks", n, None),
    }
    for n, text in enumerate(texts)
  ]


def lettered(said: str) -> str:
  """'answer 2' is B on the page."""
  return re.sub(
    r"\banswer ([1-9])\b", lambda n: f"answer {LETTERS[int(n[1]) - 1]}", said
  )


def end(screening: str) -> tuple[str, list[str]]:
  """Title and lines for a labeler for whom there is no task."""
  return _ENDS.get(screening, _DONE)


_DONE = (
  "That is all for now",
  ["There is no task left for you. New ones may come: look in again."],
)
_ENDS = {
  "waiting": (
    "Thank you: your practice tasks are in",
    [
      "A person reads what you wrote before the work goes on. You need do"
      " nothing: come back to this page, tomorrow perhaps.",
    ],
  ),
  "failed": (
    "Thank you for your time",
    [
      "Your answers to the practice tasks differ from what this study looks for"
      " in more places than it can work with. That says nothing about you: such"
      " judgments are personal, and another study may look for just yours.",
      "If you think that something went wrong, write to whoever invited you:"
      " they see your answers, and may decide otherwise.",
    ],
  ),
}


def row(done: store.Done) -> dict[str, Any]:
  """A line of the history."""
  assignment = done.assignment
  turns = showing.prompt_of(assignment.content)
  prompt = turns[-1][1] if turns else ""
  if assignment.kind == "writing":
    prompt = assignment.content.get("hint") or ""
  at = datetime.datetime.fromtimestamp(done.saved_at, datetime.UTC)
  return {
    "title": _TITLES[assignment.kind],
    "iso": at.isoformat(timespec="seconds"),
    "when": f"{at.day} {at:%B %Y, %H:%M} UTC",
    "prompt": prompt,
    "answer": _said(assignment, done.answer),
    "sensitive": done.sensitive,
  }


def _said(assignment: store.Assignment, answer: Mapping[str, Any]) -> str:
  """An answer in a line, by the letters that the page had."""
  if "skipped" in answer:
    return f"Skipped: {answer['skipped']}"
  if "ranks" not in answer:
    return next((x for x in answer.values() if isinstance(x, str)), "")
  ranks = [answer["ranks"][n] for n in assignment.display]
  tiers = [
    " = ".join(LETTERS[n] for n, rank in enumerate(ranks) if rank == each)
    for each in sorted(set(ranks))
  ]
  return " > ".join(tiers)
