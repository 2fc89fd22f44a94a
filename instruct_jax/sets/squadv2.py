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
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import contract, options, prompts, shots, table
from instruct_jax.scoring import spans, tasks

INSTRUCTION = (
  "Answer each question using information in the preceding background"
  " paragraph. If there is not enough information provided, answer with"
  f' "{tasks.NO_ANSWER}"'
)
MAX_TOKENS = 50
_MOST = 1000  # earlier questions: all


@dataclasses.dataclass(frozen=True)
class Item:
  """A question; without answers where the passage has none."""

  title: str
  passage: str
  question: str
  answers: tuple[str, ...]

  @property
  def opening(self) -> str:
    """What stands before the passage."""
    return f"Title: {self.title}\n\nBackground: "

  @property
  def asked(self) -> str:
    """What stands behind the passage."""
    return f"\n\nQ: {self.question}\n\nA:"

  @property
  def shown(self) -> str:
    """The same with its answer."""
    said = self.answers[0] if self.answers else tasks.NO_ANSWER
    return f"{self.asked} {said}"


def measure(bench: contract.Bench) -> contract.Measured:
  """F1 and exact match by the official normalisation, fractions."""
  items = table.filled(read(bench.files["items"]), bench.files["items"])
  choose = shots.chooser(bench, lambda: _examples(bench, items))
  history = options.whole(bench, "history", _MOST)
  asked = bench.some(list(_prompts(items, history)))
  asked = [
    (item, dataclasses.replace(one, examples=choose(item.passage)))
    for item, one in asked
  ]
  said = prompts.ask(
    bench.model, [one for _, one in asked], max_tokens=MAX_TOKENS
  )
  samples = [
    _sample(item, prompt, text)
    for (item, _), prompt, text in zip(asked, said.prompts, said.texts)
  ]
  clusters = [item.passage for item, _ in asked]
  return contract.Measured(_metrics(samples, clusters), samples, said.counts)


def _examples(bench, items):
  """(passage, the whole of it with its questions) of all passages."""
  if spec := bench.files.get("examples"):
    items = table.filled(read(spec), spec)
  for passage, group in itertools.groupby(items, lambda item: item.passage):
    first, *rest = group
    shown = "".join(one.shown for one in (first, *rest))
    yield passage, f"{first.opening}{passage}{shown}\n\n"


def _prompts(
  items: Sequence[Item], history: int
) -> Iterator[tuple[Item, prompts.Prompt]]:
  for _, group in itertools.groupby(items, lambda item: item.passage):
    before: list[str] = []
    for item in group:
      yield (
        item,
        prompts.Prompt(
          start=f"{INSTRUCTION}\n\n",
          opening=item.opening,
          passage=item.passage,
          history=tuple(before[max(0, len(before) - history) :]),
          end=item.asked,
        ),
      )
      before.append(item.shown)


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
  options={
    "shots": "other passages before each question, all of theirs answered",
    "history": "earlier questions of the passage shown at most, answered",
  },
  measure=measure,
)
