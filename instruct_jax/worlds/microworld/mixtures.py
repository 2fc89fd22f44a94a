"""Mixtures of tasks in many templates, with short answers: FLAN's and T0's.

All tasks but comparison, whose cue says what is asked.

Both turn sets with one right answer into prompts by templates. FLAN (Wei et al.
2022, arXiv:2109.01652) has translation among its tasks and a cue where the
answer goes; T0 (Sanh et al. 2022, arXiv:2110.08207) is English only, with more
templates a task, most of them questions. Neither holds an open-ended request:
nobody is asked to write, to list or to chat (section 4.1 of the paper says what
that costs). Items and what users ask are split alike, so nothing that is held
out is in a training split.
"""

import dataclasses
import functools
import random
from collections.abc import Callable, Iterator

from instruct_jax.worlds.microworld import answers, prompts, tables, tasks

_TRIES = 20  # draws for each row that is wanted
Row = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Task:
  """A task and the templates that it is asked in; {a} and {b} are its texts."""

  draw: Callable[[random.Random, str], tuple[list[str], str]]
  templates: tuple[str, ...]


def _item(name: str) -> Callable[[random.Random, str], tuple[list[str], str]]:
  """The texts and the answer of an item of a public-NLP-like task."""

  def draw(rng: random.Random, split: str) -> tuple[list[str], str]:
    item = tasks.draw(name, rng, split)
    *texts, _ = item.prompt.split(" \n ")  # the last is a cue
    if name != "sequence":  # which begins with who counts, not with a label
      texts = [text.partition(" : ")[2] for text in texts]
    return texts, item.answer

  return draw


def _asked(use_case: str) -> Callable[..., tuple[list[str], str]]:
  """A request of users that has one right answer."""

  def draw(rng: random.Random, split: str) -> tuple[list[str], str]:
    prompt = prompts.draw(rng, split, use_case=use_case)
    answer = answers.ideal(rng, prompt.spec)
    return [prompt.text], answer.removesuffix(" .")

  return draw


_TOLD = ("{a} {b}", "{b} {a}", "{a} now tell me , {b}")
_READ = ("text : {a} question : {b} answer :", "passage : {a} {b} answer :",
         "read this text . {a} {b} answer :")  # fmt: skip
MIXTURES: dict[str, dict[str, Task]] = {
  "flan": {
    "reading": Task(_item("reading"), _READ),
    "counting": Task(_item("counting"), _READ),
    "summary": Task(
      _item("summary"),
      ("passage : {a} short :", "make this text short : {a} short :"),
    ),
    "to_english": Task(
      _item("to_english"),
      (
        "zorp : {a} english :",
        "translate this to english : {a} english :",
        "say this in english : {a} answer :",
      ),
    ),
    "to_zorp": Task(
      _item("to_zorp"),
      (
        "english : {a} zorp :",
        "translate this to zorp : {a} zorp :",
        "say this in zorp : {a} answer :",
      ),
    ),
    "sentiment": Task(
      _item("sentiment"),
      (
        "review : {a} sentiment :",
        "review : {a} is this review positive or negative ? answer :",
        "read this review . {a} positive or negative ? answer :",
      ),
    ),
    "sequence": Task(
      _item("sequence"),
      ("{a} next :", "{a} what is next ? answer :"),
    ),
  },
  "t0": {
    "reading": Task(
      _item("reading"),
      (
        "{a} {b}",
        "{b} {a}",
        "use this text : {a} {b}",
        "{a} after this text , {b}",
        "find the answer in this text : {a} {b}",
        "i read this : {a} now tell me , {b}",
      ),
    ),
    "counting": Task(_item("counting"), _TOLD),
    "extraction": Task(_asked("extract"), ("{a}",)),
    "summary": Task(_asked("summarization"), ("{a}",)),
    "sentiment": Task(
      _item("sentiment"),
      (
        "is this review positive or negative ? {a}",
        "what is the sentiment of this review ? {a}",
        "does the writer like it ? say positive or negative . {a}",
        "{a} is the review positive or negative ?",
        "classify this review : {a}",
        "i read this review : {a} positive or negative ?",
      ),
    ),
    "sequence": Task(
      _item("sequence"),
      (
        "{a} . what is next ?",
        "what is next ? {a}",
        "{a} . now tell me next .",
      ),
    ),
  },
}


def rows(name: str, split: str, count: int, *, seed: int) -> Iterator[Row]:
  """Of each task of a mixture `count` different rows, or as many as there are.

  {"prompt", "response", "task"}.
  """
  for task in MIXTURES[name]:
    seen: set[str] = set()
    rng = random.Random(f"{seed} {name} {task} {split}")
    for _ in range(_TRIES * count):
      if len(seen) == count:
        break
      row = _row(rng, name, task, split)
      if row is not None and row["prompt"] not in seen:
        seen.add(row["prompt"])
        yield row


def _row(rng: random.Random, name: str, task: str, split: str) -> Row | None:
  """A row, or None for a draw that is too long or of another split."""
  made = MIXTURES[name][task]
  texts, answer = made.draw(rng, split)
  prompt = rng.choice(made.templates).format(**dict(zip("ab", texts)))
  is_plain = task in ("sentiment", "to_english", "to_zorp")
  if is_plain and tables.split_of(prompt) != split:
    return None  # a user's words for it may be held out
  if len(prompt.split(" ")) > prompts.LONGEST:
    return None
  return {"prompt": prompt, "response": answer, "task": task}


OF = {name: functools.partial(rows, name) for name in MIXTURES}
