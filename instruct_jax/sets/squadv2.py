"""SQuAD 2.0 (Rajpurkar et al. 2018): answers from a passage, or none.

Read as published (`dev-v2.0.json`), or as rows with title, context, question
and answers. The prompt is the paper's, zero-shot; with the option shots=N the
N answered questions before it of the same passage stand before a question, as
far as there are any.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors, storage
from instruct_jax.data.read import files
from instruct_jax.measuring import contract, options, table
from instruct_jax.scoring import spans, tasks

INSTRUCTION = (
  "Answer each question using information in the preceding background"
  " paragraph. If there is not enough information provided, answer with"
  f' "{tasks.NO_ANSWER}"'
)
MAX_TOKENS = 50


@dataclasses.dataclass(frozen=True)
class Item:
  """A question; without answers where the passage has none."""

  title: str
  passage: str
  question: str
  answers: tuple[str, ...]

  @property
  def shown(self) -> str:
    """What stands for it as an example."""
    said = self.answers[0] if self.answers else tasks.NO_ANSWER
    return f"Q: {self.question}\n\nA: {said}\n\n"


def measure(bench: contract.Bench) -> contract.Measured:
  """F1 and exact match by the official normalisation, fractions."""
  shots = options.whole(bench, "shots", 0)
  asked = list(
    _prompts(
      table.filled(read(bench.files["items"]), bench.files["items"]), shots
    )
  )
  asked = bench.some(asked)
  said = bench.model.say(
    [prompt for _, prompt in asked], max_tokens=MAX_TOKENS, stops=("\n",)
  )
  samples, scores = [], []
  for (item, prompt), one in zip(asked, said):
    row = {tasks.SAMPLE: one.text, tasks.REFERENCES: list(item.answers) or [""]}
    plain = tasks.with_no_answer(row, tasks.NO_ANSWER)
    scores.append(spans.squad(plain[tasks.SAMPLE], plain[tasks.REFERENCES]))
    samples.append(
      {
        "context": prompt,
        "ref_text": "|".join(item.answers or [tasks.NO_ANSWER]),
        "sample": one.text,
        "f1": scores[-1][1],
        "em": scores[-1][0],
      }
    )
  has = [bool(item.answers) for item, _ in asked]
  metrics = {"f1": [f1 for _, f1 in scores], "em": [em for em, _ in scores]}
  for name, values in list(metrics.items()):
    for label, wanted in (("answered", True), ("unanswerable", False)):
      part = [x for x, one in zip(values, has) if one == wanted]
      if part:
        metrics[f"{name}_{label}"] = part
  return contract.Measured(
    {name: tasks.mean(values) for name, values in metrics.items()},
    samples,
    options.counts(said),
  )


def _prompts(items: Sequence[Item], shots: int) -> Iterator[tuple[Item, str]]:
  before: list[Item] = []
  for item in items:
    if before and before[-1].passage != item.passage:
      before = []
    examples = "".join(one.shown for one in before[-shots:]) if shots else ""
    prompt = (
      f"{INSTRUCTION}\n\nTitle: {item.title}\n\nBackground: {item.passage}"
      f"\n\n{examples}Q: {item.question}\n\nA:"
    )
    yield item, prompt
    before.append(item)


def read(spec: str) -> Iterator[Item]:
  """The questions of a published file, or of rows."""
  for unit in files.units(spec):
    if isinstance(unit, epath.Path) and files.suffix(unit) == ".json":
      tree = storage.read_json(unit)
      if "data" in tree:
        yield from _of_articles(tree["data"], str(unit))
        continue
    for where, row in files.unit_rows(unit):
      yield _of_row(row, where)


def _of_articles(articles: Any, where: str) -> Iterator[Item]:
  for n, article in enumerate(articles):
    of_article = f'{where}: "data"[{n}]'
    for k, part in enumerate(_list(article, "paragraphs", of_article)):
      of_part = f'{of_article}."paragraphs"[{k}]'
      passage = table.text(part, "context", of_part)
      for i, question in enumerate(_list(part, "qas", of_part)):
        of_question = f'{of_part}."qas"[{i}]'
        yield Item(
          title=str(article.get("title", "")).replace("_", " "),
          passage=passage,
          question=table.text(question, "question", of_question).strip(),
          answers=tuple(
            table.text(answer, "text", of_question)
            for answer in _list(question, "answers", of_question)
          ),
        )


def _list(tree: Any, name: str, where: str) -> list[Mapping[str, Any]]:
  value = tree.get(name) if isinstance(tree, dict) else None
  if not isinstance(value, list) or not all(isinstance(x, dict) for x in value):
    raise errors.UserError(
      f'{where}: "{name}" should be a list of objects, as SQuAD 2.0 publishes'
    )
  return value


def _of_row(row, where):
  answers = row.get("answers")
  if not isinstance(answers, dict) or "text" not in answers:
    raise errors.UserError(
      f'{where}: "answers" should be an object with a list "text"'
    )
  return Item(
    title=str(row.get("title", "")).replace("_", " "),
    passage=table.text(row, "context", where),
    question=table.text(row, "question", where).strip(),
    answers=tuple(table.texts(answers, "text", f"{where}: answers")),
  )


SET = contract.Set(
  about="SQuAD 2.0: short answers from a passage, or that there is none",
  files={"items": ("dev-v2.0.json", "*squad*v2*/valid*", "*squad*v2*.json*")},
  published="https://rajpurkar.github.io/SQuAD-explorer",
  headline="f1",
  options={"shots": "questions of the same passage shown before, answered"},
  measure=measure,
)
