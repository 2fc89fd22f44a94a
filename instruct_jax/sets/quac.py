"""QuAC (Choi et al. 2018): a student asks about a text that a teacher sees.

Read as published (`val_v0.2.json`), or as rows of its Hugging Face form, a
dialogue each. As the paper and GPT-3 do, earlier questions stand with the
teacher's answers, zero-shot too (`history=0`: none), and "I don't know" is said
for CANNOTANSWER; with shots=N, N other dialogues stand before. The paper's
QuAC samples were not released: the prompt has its words, its lines are parted
as those of its SQuAD samples.

Scores are those of the official script: F1 against several annotators, over the
questions on which people themselves have an F1 of 0.4; the share of questions,
and of dialogues, in which the model does as well as people (`heq_q`, `heq_d`).
Standard errors take the questions of a dialogue as one cluster.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import contract, passages, table
from instruct_jax.scoring import spans, tasks

UNKNOWN = "I don't know"
INSTRUCTION = (
  "Answer each question using information in the preceding background"
  " paragraph. If there is not enough information provided, answer with"
  f' "{UNKNOWN}"'
)
MAX_TOKENS = 50
LEAST = 0.4  # people's F1 on questions that count
_NONE = {spans.squad_normalised(x) for x in (UNKNOWN, spans.CANNOT)}


@dataclasses.dataclass(frozen=True)
class Item:
  """A question of a dialogue, with what each annotator answered."""

  question: str
  answer: str  # the teacher's
  answers: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Dialogue:
  """Questions on one section of an article."""

  title: str
  passage: str
  items: tuple[Item, ...]


def measure(bench: contract.Bench) -> contract.Measured:
  """F1 and how often it is as people's, fractions."""
  found, counts = passages.ask(
    bench, _passages, f"{INSTRUCTION}\n\n", max_tokens=MAX_TOKENS
  )
  samples = [_sample(x.question.about, x.prompt, x.text) for x in found]
  dialogues = [one.passage for one in found]
  if few := sum(row["human_f1"] < LEAST for row in samples):
    counts = counts | {f"questions left out, people's F1 below {LEAST}": few}
  return contract.Measured(_metrics(samples, dialogues), samples, counts)


def _passages(spec: str) -> list[passages.Passage]:
  return [
    passages.Passage(
      f"TITLE: {one.title}\n\nPARAGRAPH: ",
      one.passage,
      tuple(
        passages.Question(item.question, _shown(item.answer), item)
        for item in one.items
      ),
    )
    for one in table.filled(read(spec), spec)
  ]


def _shown(answer):
  return UNKNOWN if answer == spans.CANNOT else answer


def _sample(item: Item, prompt: str, text: str) -> dict[str, Any]:
  agreed = spans.quac_agreed(item.answers)
  is_none = spans.squad_normalised(text) in _NONE
  return {
    "context": prompt,
    tasks.SAMPLE: text,
    tasks.REFERENCES: [_shown(one) for one in agreed],
    "is_answered": agreed != [spans.CANNOT],
    "f1": spans.quac(spans.CANNOT if is_none else text, agreed),
    "human_f1": spans.quac_human(agreed),
  }


def _metrics(
  samples: Sequence[Mapping[str, Any]], dialogues: Sequence[passages.Passage]
) -> dict[str, tasks.Estimate]:
  counted = [
    (row, id(dialogue))
    for row, dialogue in zip(samples, dialogues)
    if row["human_f1"] >= LEAST
  ]
  values = {
    "f1": [(row["f1"], one) for row, one in counted],
    "heq_q": [(row["f1"] >= row["human_f1"], one) for row, one in counted],
    "f1_answered": [(row["f1"], x) for row, x in counted if row["is_answered"]],
    "f1_unanswerable": [
      (row["f1"], x) for row, x in counted if not row["is_answered"]
    ],
    "f1_unfiltered": [
      (row["f1"], id(one)) for row, one in zip(samples, dialogues)
    ],
    "heq_d": [(x, n) for n, x in enumerate(_whole(samples, dialogues))],
  }
  return {
    name: tasks.mean(*map(list, zip(*pairs)))
    for name, pairs in values.items()
    if pairs
  }


def _whole(samples, dialogues) -> list[bool]:
  """Of each dialogue that was asked as a whole: whether none of its questions
  that count is below people's."""
  rows: dict[int, list[Mapping[str, Any]]] = {}
  for row, dialogue in zip(samples, dialogues):
    rows.setdefault(id(dialogue), []).append(row)
  sizes = {id(one): len(one.questions) for one in dialogues}
  return [
    all(x["f1"] >= x["human_f1"] or x["human_f1"] < LEAST for x in some)
    for one, some in rows.items()
    if len(some) == sizes[one]
  ]


def read(spec: str) -> Iterator[Dialogue]:
  """The dialogues of a published file, or of rows."""
  for where, row in files.rows(spec):
    if "paragraphs" in row:
      yield from _of_article(row, where)
    else:
      yield _of_row(row, where)


def _of_article(row, where):
  title = f"{row.get('title', '')} - {row.get('section_title', '')}"
  for k, part in enumerate(table.objects(row, "paragraphs", where)):
    of_part = f'{where}, "paragraphs"[{k}]'
    items = []
    for i, one in enumerate(table.objects(part, "qas", of_part)):
      of_one = f'{of_part}, "qas"[{i}]'
      known = [
        table.text(answer, "text", f'{of_one}, "answers"')
        for answer in table.objects(one, "answers", of_one)
      ]
      teacher = one.get("orig_answer") or {"text": (*known, "")[0]}
      answer = table.text(teacher, "text", f'{of_one}, "orig_answer"')
      question = table.text(one, "question", of_one)
      items.append(_item(question, answer, known, of_one))
    yield Dialogue(title, _passage(part, of_part), tuple(items))


def _of_row(row, where):
  """Hugging Face's: a list for every column of the turns."""
  questions = table.texts(row, "questions", where)
  known = _texts(row, "answers", where)
  teacher = _texts(row, "orig_answers", where)
  if not len(questions) == len(known) == len(teacher):
    raise errors.UserError(
      f'{where}: {len(questions)} "questions", {len(known)} "answers" and'
      f' {len(teacher)} "orig_answers"; one a question is right'
    )
  title = row.get("wikipedia_page_title", "")
  return Dialogue(
    f"{title} - {row.get('section_title', '')}",
    _passage(row, where),
    tuple(
      _item(question, one, [one] if isinstance(some, str) else some, where)
      for question, one, some in zip(questions, teacher, known)
    ),
  )


def _texts(row, name, where):
  table.needs(row, [name], where)
  value = row[name]
  if not isinstance(value, Mapping) or not isinstance(value.get("texts"), list):
    raise errors.UserError(
      f'{where}: "{name}" should be an object with a list "texts"'
    )
  return value["texts"]


def _passage(row, where):
  """Without the word at its end that annotators marked for no answer."""
  text = table.text(row, "context", where)
  return text.removesuffix(spans.CANNOT).rstrip()


def _item(question, answer, known, where):
  if not known or not all(isinstance(x, str) for x in (answer, *known)):
    raise errors.UserError(
      f"{where}: a question needs answers, which are texts"
    )
  return Item(question.strip(), answer, tuple(known))


SET = contract.Set(
  about="QuAC: questions of a conversation about a text",
  files={
    "items": ("val_v0.2.json", "*quac*/val*", "*quac*.json*"),
    "examples": ("train_v0.2.json", "*quac*/train*"),
  },
  optional=("examples",),
  published="https://quac.ai",
  headline="f1",
  options=passages.OPTIONS,
  measure=measure,
)
