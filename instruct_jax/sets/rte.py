"""RTE (Dagan et al. 2006 and later): whether a passage entails a sentence.

Read as SuperGLUE publishes it (`val.jsonl`: premise, hypothesis, label), as
GLUE does (`dev.tsv`: sentence1, sentence2, label), as rows with either's
columns (label 0 is entailment), or as PASCAL's own XML, also several in a zip,
of which those called `test` are the items and those called `dev` the examples.
The prompt is the paper's as far as it is known: a passage, the question whether
one can infer the sentence from it, yes or no by likelihood.
"""

import io
import xml.etree.ElementTree as tree
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import compressed, files
from instruct_jax.measuring import contract, questions, table

CHOICES = (" yes", " no")
_LABELS = {
  **{0: 0, 1: 1, "0": 0, "1": 1},
  **{"entailment": 0, "not_entailment": 1},
}
_VALUES = {"YES": 0, "NO": 1, "TRUE": 0, "FALSE": 1}
_COLUMNS = (("premise", "hypothesis"), ("sentence1", "sentence2"))


def measure(bench: contract.Bench) -> contract.Measured:
  """Accuracy."""
  return questions.measure(bench, read)


def read(spec: str) -> Iterator[questions.Question]:
  """The pairs of a file; those without a label (-1) are no items."""
  for unit in files.units(spec):
    kind = "" if isinstance(unit, str) else files.suffix(unit)
    if kind == ".zip":
      yield from _of_zip(epath.Path(unit))
    elif kind == ".xml":
      yield from _of_xml(_content(epath.Path(unit)), str(unit))
    else:
      for where, row in files.unit_rows(unit):
        if row.get("label") not in (-1, "-1"):
          yield _of_row(row, where)


def _content(path: epath.Path) -> bytes:
  """Of a file, compressed or not."""
  try:
    with path.open("rb") as raw, compressed.opened(raw, path) as file:
      return file.read()
  except (*compressed.ERRORS, OSError) as error:
    raise errors.UserError(f"{path}: cannot be read ({error})") from None


def _of_row(row: Mapping[str, Any], where: str) -> questions.Question:
  of_glue = "sentence1" in row and "premise" not in row
  passage, sentence = (
    table.text(row, name, where) for name in _COLUMNS[of_glue]
  )
  answer = table.one_of(row, "label", where, _LABELS)
  return _question(passage, sentence, answer)


def _of_zip(path: epath.Path) -> Iterator[questions.Question]:
  try:
    archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
  except zipfile.BadZipFile:
    raise errors.UserError(
      f"{path}: no zip archive, or a damaged one"
    ) from None
  names = [name for name in archive.namelist() if name.endswith(".xml")]
  wanted = [name for name in names if "test" in name.rpartition("/")[2]]
  if not names:
    raise errors.UserError(f"{path}: no .xml in it; RTE's are rte1_test.xml, …")
  for name in sorted(wanted or names):
    yield from _of_xml(archive.read(name), f"{path}:{name}")


def _of_xml(content: bytes, where: str) -> Iterator[questions.Question]:
  try:
    root = tree.fromstring(content)
  except tree.ParseError as error:
    raise errors.UserError(f"{where}: no XML ({error})") from None
  for number, pair in enumerate(root.iter("pair"), start=1):
    of_pair = f"{where}: pair {pair.get('id', number)}"
    value = (pair.get("entailment") or pair.get("value") or "").upper()
    if value not in _VALUES:
      raise errors.UserError(
        f'{of_pair}: entailment="YES" or "NO" (RTE-1: value="TRUE" or "FALSE")'
        f" is needed, not {value!r}"
      )
    texts = [" ".join((pair.findtext(x) or "").split()) for x in ("t", "h")]
    if not all(texts):
      raise errors.UserError(f"{of_pair}: <t> and <h> need a text each")
    yield _question(texts[0], texts[1], _VALUES[value])


def _question(passage, sentence, answer):
  said = sentence.strip().rstrip(".")
  return questions.Question(
    shown=(
      f"Passage: {passage.strip()}\n\nQuestion: From this passage can one infer"
      f" that {said}?\n\nAnswer:"
    ),
    choices=CHOICES,
    answer=answer,
    group=passage.strip(),
  )


SET = contract.Set(
  about="RTE: whether a passage entails a sentence",
  files={
    "items": (
      "RTE/val.jsonl",
      "*rte*/dev.tsv",
      "*rte*/valid*",
      "rte*test*.xml",
      "rte.zip",
    ),
    "examples": ("RTE/train.jsonl", "*rte*/train*", "rte*dev*.xml"),
  },
  published="https://super.gluebenchmark.com/tasks",
  headline="accuracy",
  optional=("examples",),
  options=questions.SHOTS,
  measure=measure,
)
