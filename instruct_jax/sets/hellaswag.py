"""HellaSwag (Zellers et al. 2019): how a described scene goes on.

Read as published (`hellaswag_val.jsonl`: activity_label, ctx, endings, label),
as rows with these columns, or in the layout of klosax/hellaswag_text_data, six
lines an item. Texts are cleaned, and scored by sum and by byte, as
lm-evaluation-harness does, without an instruction before them; with
prompt=paper they stand behind InstructGPT's (appendix D.2, as far as it is
known), as with shots.
"""

import dataclasses
import re
from collections.abc import Iterator

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import choices, contract, options, questions, table

_LINES = 6
_LABELS = {n: n for n in range(4)} | {str(n): n for n in range(4)}
_BRACKETS = re.compile(r"\[.*?\]")


INSTRUCTION = (
  "Complete each independent paragraph using common-sense reasoning."
)


def measure(bench: contract.Bench) -> contract.Measured:
  """Accuracy by log-probability, and by that for each byte of an ending."""
  kind = options.one_of(bench, "prompt", ("plain", "paper"))
  is_plain = kind == "plain" and not options.whole(bench, "shots", 0)
  given = questions.asked(bench, read, "" if is_plain else INSTRUCTION)
  items = [
    choices.Item((prompt,), one.choices, one.answer, one.about)
    for one, prompt in zip(given.questions, given.prompts)
  ]
  found = choices.measure(bench.model, items)
  return dataclasses.replace(found, counts=given.counts | found.counts)


def read(spec: str) -> Iterator[questions.Question]:
  """The items of a file in one of the layouts."""
  for unit in files.units(spec):
    if isinstance(unit, str) or files.holds_objects(unit):
      yield from (_of_row(*row) for row in files.unit_rows(unit))
    else:
      yield from _of_lines(unit)


def _of_row(where, row):
  label = table.one_of(row, "label", where, _LABELS)
  activity = table.text(row, "activity_label", where)
  context = table.text(row, "ctx", where)
  endings = table.texts(row, "endings", where)
  if len(endings) != 4:
    raise errors.UserError(
      f'{where}: "endings" should be 4 texts, not {len(endings)}'
    )
  return _item(f"{activity}: {context}", endings, label)


def _of_lines(path: epath.Path) -> Iterator[questions.Question]:
  lines = [(n, line) for n, line in files.lines(path) if line.strip()]
  for start in range(0, len(lines), _LINES):
    (first, context), *rest = lines[start : start + _LINES]
    label = rest[0][1].strip() if rest else ""
    if len(rest) < _LINES - 1 or label not in _LABELS:
      raise errors.UserError(
        f"{path}:{first}: an item is six lines (context, the right ending's"
        " number from 0 to 3, four endings)"
      )
    endings = [line for _, line in rest[1:]]
    yield _item(context, endings, _LABELS[label])


def _item(context, endings, label):
  shown = _cleaned(context)
  return questions.Question(
    shown=shown,
    choices=tuple(" " + _cleaned(ending) for ending in endings),
    answer=label,
    group=shown,
  )


def _cleaned(text: str) -> str:
  text = _BRACKETS.sub("", text.strip().replace(" [title]", ". "))
  return text.replace("  ", " ")


SET = contract.Set(
  about="HellaSwag: which of four endings a scene has",
  files={
    "items": ("hellaswag_val*", "*hellaswag*/val*"),
    "examples": ("hellaswag_train*", "*hellaswag*/train*"),
  },
  published="https://github.com/rowanz/hellaswag",
  headline="accuracy_normalised",
  optional=("examples",),
  options=questions.SHOTS
  | {"prompt": "plain, or paper: an instruction before each item"},
  measure=measure,
)
