"""DROP (Dua et al. 2019): answers that a passage has to be worked out for.

Read as published (`drop_dataset_dev.json`: passages by their names), or as rows
with passage, question and answers in one of the forms that they are handed on
in. The prompt is that of the paper's released samples; with shots=N, N
questions of other passages stand before with their answers. Whether the paper
put an instruction before is not known: here is none.

An answer is a number, a date or spans; several alternatives may be right, by
the official script. What a model says is one span, as in
lm-evaluation-harness: it cannot match several exactly. Standard errors take the
questions of a passage as one cluster.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import files, typed
from instruct_jax.measuring import contract, prompts, shots, table
from instruct_jax.scoring import spans, tasks

MAX_TOKENS = 25
KINDS = ("number", "date", "span", "spans")
_DATE = ("day", "month", "year")


@dataclasses.dataclass(frozen=True)
class Answer:
  """One alternative: its spans, and what they are."""

  kind: str  # of KINDS
  spans: tuple[str, ...]

  @property
  def shown(self) -> str:
    """As one text."""
    return ", ".join(self.spans)


@dataclasses.dataclass(frozen=True)
class Item:
  """A question of a passage."""

  passage: str
  question: str
  answers: tuple[Answer, ...]  # alternatives, none of them empty

  @property
  def end(self) -> str:
    """What stands behind the passage."""
    return f"\nQuestion: {self.question}\nAnswer:"

  @property
  def shown(self) -> str:
    """All of it with its answer."""
    return f"Passage: {self.passage}{self.end} {self.answers[0].shown}\n\n"


def measure(bench: contract.Bench) -> contract.Measured:
  """F1 and exact match by the official script, fractions; by kind too."""
  items = table.filled(read(bench.files["items"]), bench.files["items"])
  spec = bench.files.get("examples")
  choose = shots.chooser(
    bench,
    lambda: [
      (one.passage, one.shown)
      for one in (table.filled(read(spec), spec) if spec else items)
      if one.answers
    ],
  )
  asked = bench.some(items)
  said = prompts.ask(
    bench.model,
    [
      prompts.Prompt(
        examples=choose(item.passage),
        opening="Passage: ",
        passage=item.passage,
        end=item.end,
      )
      for item in asked
    ],
    max_tokens=MAX_TOKENS,
  )
  samples = [_sample(*one) for one in zip(asked, said.prompts, said.texts)]
  counts = said.counts
  if none := sum(not item.answers for item in asked):
    counts = counts | {
      "questions without an answer in the file, scored 0": none
    }
  clusters = [item.passage for item in asked]
  return contract.Measured(_metrics(samples, clusters), samples, counts)


def _sample(item: Item, prompt: str, text: str) -> dict[str, Any]:
  exact, f1 = spans.drop_spans([text], [one.spans for one in item.answers])
  return {
    "context": prompt,
    tasks.SAMPLE: text,
    tasks.REFERENCES: [one.shown for one in item.answers] or [""],
    "kind": item.answers[0].kind if item.answers else "none",
    "f1": f1,
    "em": exact,
  }


def _metrics(samples, clusters):
  metrics = {}
  for kind in (None, *KINDS):
    some = [
      (row, cluster)
      for row, cluster in zip(samples, clusters)
      if kind in (None, row["kind"])
    ]
    for name in ("f1", "em") if some else ():
      metrics[name if kind is None else f"{name}_{kind}"] = tasks.mean(
        [row[name] for row, _ in some], [cluster for _, cluster in some]
      )
  return metrics


def read(spec: str) -> Iterator[Item]:
  """The questions of a published file, or of rows."""
  for where, row in files.rows(spec):
    if "passage" in row:
      yield _item(row, table.text(row, "passage", where), where)
      continue
    table_of = all(isinstance(one, Mapping) for one in row.values())
    if not row or not table_of:
      table.needs(row, ["passage"], where)
    for name, part in row.items():
      of_part = f"{where.removesuffix(':1')}, {typed.shown(name)}"
      passage = table.text(part, "passage", of_part)
      for k, one in enumerate(table.objects(part, "qa_pairs", of_part)):
        yield _item(one, passage, f'{of_part}, "qa_pairs"[{k}]')


def _item(row: Mapping[str, Any], passage: str, where: str) -> Item:
  answers = [
    one for given in _given(row, where) if (one := _answer(given, where))
  ]
  return Item(
    passage=passage,
    question=table.text(row, "question", where).strip(),
    answers=tuple(answers),
  )


def _given(row, where) -> Iterator[Any]:
  """The alternatives of a row, in the form that they have there."""
  if "answers_spans" in row:
    listed = row["answers_spans"]
    if not isinstance(listed, Mapping):
      raise errors.UserError(
        f'{where}: "answers_spans" should be an object with a list "spans"'
      )
    texts = table.texts(listed, "spans", f'{where}, "answers_spans"')
    kinds = listed.get("types") or ["span"]
    is_number = bool(texts) and kinds[0] == "number"
    yield {"number": texts[0]} if is_number else {"spans": texts}
    return
  table.needs(row, ["answer"], where)
  yield row["answer"]
  more = row.get("validated_answers") or ()
  if isinstance(more, Mapping):  # a list for every key
    more = _turned(more, ("number", "date", "spans"), where)
  yield from more


def _turned(columns: Any, names: Sequence[str], where: str) -> list[Any]:
  """The rows of columns, as sets in tables have them."""
  lists = {name: columns[name] for name in names if columns.get(name)}
  if isinstance(lists.get("date"), Mapping):
    lists["date"] = _turned(lists["date"], _DATE, where)
  if len({len(one) for one in lists.values()}) > 1:
    raise errors.UserError(
      f'{where}: the lists of "validated_answers" differ in length'
    )
  return [dict(zip(lists, values)) for values in zip(*lists.values())]


def _answer(given: Any, where: str) -> Answer | None:
  """An alternative; None for an empty one. A number goes before spans."""
  if isinstance(given, str):
    return Answer("span", (given,)) if given.strip() else None
  if not isinstance(given, Mapping):
    raise errors.UserError(
      f"{where}: an answer should be an object with number, date and spans,"
      f" not {typed.shown(given)}"
    )
  number, date = given.get("number"), given.get("date") or {}
  if number not in (None, ""):
    return Answer("number", (str(number),))
  if texts := given.get("spans"):
    texts = tuple(table.texts(given, "spans", where))
    kind = "span" if len(texts) == 1 else "spans"
    return Answer(kind, texts) if texts[0].strip() else None
  if not isinstance(date, Mapping):
    raise errors.UserError(
      f'{where}: "date" should be an object with {", ".join(_DATE)}, not'
      f" {typed.shown(date)}"
    )
  whole = " ".join(str(date[x]) for x in _DATE if date.get(x))
  return Answer("date", (whole,)) if whole else None


SET = contract.Set(
  about="DROP: numbers, dates and spans that a passage has to be read for",
  files={
    "items": ("drop_dataset_dev.json", "*drop*/valid*", "*drop*/*dev*"),
    "examples": ("drop_dataset_train.json", "*drop*/*train*"),
  },
  optional=("examples",),
  published="https://allenai.org/data/drop",
  headline="f1",
  options={"shots": "answered questions of other passages before each"},
  measure=measure,
)
