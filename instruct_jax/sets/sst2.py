"""SST-2 (Socher et al. 2013): whether a sentence of a film review is positive.

Read as GLUE publishes it (`dev.tsv` with a header, sentence and label), as
lines of a sentence, a tab and 0 or 1, or as rows with these two columns. The
prompt is InstructGPT's (appendix D.2), answers are taken by likelihood.
"""

from collections.abc import Iterator

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import contract, questions, table

INSTRUCTION = (
  "For each snippet of text, label the sentiment of the text as positive or"
  " negative."
)
CHOICES = (" negative", " positive")
_LABELS = {0: 0, 1: 1, "0": 0, "1": 1}


def measure(bench: contract.Bench) -> contract.Measured:
  """Accuracy."""
  return questions.measure(bench, read, INSTRUCTION)


def read(spec: str) -> Iterator[questions.Question]:
  """The sentences of a file; those without a label (-1) are no items."""
  for unit in files.units(spec):
    is_bare = _is_bare(unit)
    rows = _lines(epath.Path(unit)) if is_bare else files.unit_rows(unit)
    for where, row in rows:
      if row.get("label") not in (-1, "-1"):
        yield _question(row, where)


def _is_bare(unit):
  """Whether it is a table without a header."""
  if isinstance(unit, str) or files.suffix(unit) not in (".tsv", ".txt"):
    return False
  first = next((line for _, line in files.lines(unit)), "")
  return first.rstrip().endswith(("\t0", "\t1"))


def _lines(path: epath.Path):
  for number, line in files.lines(path):
    sentence, tab, label = line.rstrip("\r\n").rpartition("\t")
    where = f"{path}:{number}"
    if not tab or label not in ("0", "1"):
      raise errors.UserError(
        f"{where}: a line is a sentence, a tab and 0 or 1, not {line[:60]!r}"
      )
    yield where, {"sentence": sentence, "label": label}


def _question(row, where):
  sentence = table.text(row, "sentence", where).strip()
  return questions.Question(
    shown=f"Text: {sentence}\n\nLabel:",
    choices=CHOICES,
    answer=table.one_of(row, "label", where, _LABELS),
    group=sentence,
  )


SET = contract.Set(
  about="SST-2: whether a sentence of a film review is positive",
  files={
    "items": (
      "*sst*2*/dev.tsv",
      "*sst*2*/valid*",
      "*sst*2*.tsv",
      "*sst*2*.jsonl",
    ),
    "examples": ("*sst*2*/train*",),
  },
  published="https://gluebenchmark.com/tasks",
  headline="accuracy",
  optional=("examples",),
  options=questions.SHOTS,
  measure=measure,
)
