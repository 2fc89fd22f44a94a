"""CNN/DailyMail (Hermann et al. 2015; See et al. 2017): news and their points.

Read as rows with article and highlights (Hugging Face, TFDS), or as the stories
that they are made of: `--file "cnn_dm=stories/*.story"`, a text each with its
points behind "@highlight". The prompt is the paper's. With shots=N, N articles
with their summaries stand before; how the paper parts them is not known: here
by a blank line. The tokens that it lets a model say are not known either.
"""

from collections.abc import Iterator

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import contract, summaries, table

MAX_TOKENS = 128
_POINT = "@highlight"


def measure(bench: contract.Bench) -> contract.Measured:
  """ROUGE-L."""
  return summaries.measure(bench, read, MAX_TOKENS)


def read(spec: str) -> Iterator[summaries.Item]:
  """The items of rows, or of stories."""
  for unit in files.units(spec):
    if not isinstance(unit, str) and files.suffix(unit) == ".story":
      yield _of_story(unit)
      continue
    for where, row in files.unit_rows(unit):
      article = table.text(row, "article", where)
      points = table.text(row, "highlights", where)
      yield summaries.Item(article.strip(), points.strip())


def _of_story(path):
  lines = [line.strip() for _, line in files.lines(path)]
  if _POINT not in lines:
    raise errors.UserError(
      f"{path}: no line {_POINT}; a story is a text, then such a line before"
      " each of its points"
    )
  first = lines.index(_POINT)
  article = "\n".join(line for line in lines[:first] if line)
  points = [line for line in lines[first:] if line and line != _POINT]
  return summaries.Item(article, "\n".join(points))


SET = contract.Set(
  about="CNN/DailyMail: news in a few sentences",
  files={
    "items": ("*cnn*/test*", "*cnn*/*/test*", "*cnn*test*"),
    "examples": ("*cnn*/train*", "*cnn*/*/train*", "*cnn*train*"),
  },
  optional=("examples",),
  published="https://github.com/abisee/cnn-dailymail",
  headline="rougeL",
  options=summaries.OPTIONS,
  measure=measure,
)
