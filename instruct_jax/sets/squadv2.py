"""SQuAD 2.0 (Rajpurkar et al. 2018): answers from a passage, or none.

Read as published (`dev-v2.0.json`), or as rows with title, context, question
and answers. The prompt is that of the paper's appendix, as its released samples
have it: titles with underscores, and before the question the earlier ones of
the same passage with their answers, zero-shot too (`history=0`: none). There
their order is not the file's, which it is here. With shots=N, N other passages
stand before it with all of their questions; how they were parted is not known:
here by a blank line, as the questions are.

Standard errors take the questions of a passage as one cluster.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import contract, passages, table
from instruct_jax.scoring import spans, tasks

INSTRUCTION = (
  "Answer each question using information in the preceding background"
  " paragraph. If there is not enough information provided, answer with"
  f' "{tasks.NO_ANSWER}"'
)
MAX_TOKENS = 50
_SILENCE = (
  "To the official script no word at all (but articles) says that there is no"
  " answer."
)


@dataclasses.dataclass(frozen=True)
class Item:
  """A question; without answers where the passage has none."""

  title: str
  passage: str
  question: str
  answers: tuple[str, ...]


def measure(bench: contract.Bench) -> contract.Measured:
  """F1 and exact match by the official normalisation, fractions."""
  found, counts = passages.ask(
    bench, _passages, f"{INSTRUCTION}\n\n", max_tokens=MAX_TOKENS
  )
  samples = [_sample(x.question.about, x.prompt, x.text) for x in found]
  clusters = [one.passage.text for one in found]
  is_silent = not all(spans.squad_normalised(one.text) for one in found)
  notes = (_SILENCE,) if is_silent else ()
  return contract.Measured(_metrics(samples, clusters), samples, counts, notes)


def _passages(spec: str) -> list[passages.Passage]:
  """The passages of a file with their questions."""
  items = table.filled(read(spec), spec)
  groups: dict[tuple[str, str], list[Item]] = {}
  for item in items:
    groups.setdefault((item.title, item.passage), []).append(item)
  return [
    passages.Passage(
      f"Title: {title}\n\nBackground: ",
      passage,
      tuple(
        passages.Question(
          item.question, (*item.answers, tasks.NO_ANSWER)[0], item
        )
        for item in group
      ),
    )
    for (title, passage), group in groups.items()
  ]


def _sample(item: Item, prompt: str, text: str) -> dict[str, Any]:
  row = {
    tasks.SAMPLE: text,
    tasks.REFERENCES: list(item.answers) or [tasks.NO_ANSWER],
  }
  plain = tasks.with_no_answer(row, tasks.NO_ANSWER)
  exact, f1 = spans.squad(plain[tasks.SAMPLE], plain[tasks.REFERENCES])
  about = {"is_answered": bool(item.answers), "f1": f1, "em": exact}
  return {"context": prompt} | row | about


def _metrics(
  samples: Sequence[Mapping[str, Any]], clusters: Sequence[str]
) -> dict[str, tasks.Estimate]:
  """Of all, and apart of questions with an answer and of those without."""
  parts = {"": (True, False), "_answered": (True,), "_unanswerable": (False,)}
  metrics = {}
  for label, wanted in parts.items():
    some = [
      (row, cluster)
      for row, cluster in zip(samples, clusters)
      if row["is_answered"] in wanted
    ]
    for name in ("f1", "em") if some else ():
      metrics[name + label] = tasks.mean(
        [row[name] for row, _ in some], [cluster for _, cluster in some]
      )
  return metrics


def read(spec: str) -> Iterator[Item]:
  """The questions of a published file, or of rows."""
  for where, row in files.rows(spec):
    if "paragraphs" in row:
      yield from _of_article(row, where)
    else:
      yield _of_row(row, where)


def _of_article(article: Mapping[str, Any], where: str) -> Iterator[Item]:
  title = table.text(article, "title", where)
  for k, part in enumerate(table.objects(article, "paragraphs", where)):
    of_part = f'{where}, "paragraphs"[{k}]'
    passage = table.text(part, "context", of_part)
    for i, question in enumerate(table.objects(part, "qas", of_part)):
      of_question = f'{of_part}, "qas"[{i}]'
      yield Item(
        title=title,
        passage=passage,
        question=table.text(question, "question", of_question).strip(),
        answers=tuple(
          table.text(answer, "text", f'{of_question}, "answers"')
          for answer in table.objects(question, "answers", of_question)
        ),
      )


def _of_row(row, where):
  answers = row.get("answers")
  if not isinstance(answers, dict) or "text" not in answers:
    raise errors.UserError(
      f'{where}: "answers" should be an object with a list "text"'
    )
  return Item(
    title=str(row.get("title", "")),
    passage=table.text(row, "context", where),
    question=table.text(row, "question", where).strip(),
    answers=tuple(table.texts(answers, "text", f"{where}: answers")),
  )


SET = contract.Set(
  about="SQuAD 2.0: short answers from a passage, or that there is none",
  files={
    "items": ("dev-v2.0.json", "*squad*v2*/valid*", "*squad*v2*.json*"),
    "examples": ("train-v2.0.json", "*squad*v2*/train*"),
  },
  optional=("examples",),
  published="https://rajpurkar.github.io/SQuAD-explorer",
  headline="f1",
  options=passages.OPTIONS,
  measure=measure,
)
