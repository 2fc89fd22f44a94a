"""TL;DR (Völske et al. 2017): Reddit posts, summed up by who wrote them.

Read as published (`corpus-webis-tldr-17.json`, an object a line with content
and summary), or as rows with post and summary, as OpenAI's filtered set has
them. The prompt is that of the paper's released samples: the post alone,
without title and subreddit. They are up to about 256 tokens long, which is the
most that is said here, up to the first new line. With shots=N, N posts with
their summaries stand before, parted by a blank line.
"""

from collections.abc import Iterator

from instruct_jax.data.read import files
from instruct_jax.measuring import contract, summaries, table

MAX_TOKENS = 256
_TEXTS = ("post", "content", "document")


def measure(bench: contract.Bench) -> contract.Measured:
  """ROUGE-L."""
  return summaries.measure(bench, read, MAX_TOKENS)


def read(spec: str) -> Iterator[summaries.Item]:
  """The items of rows."""
  for where, row in files.rows(spec):
    name = next((name for name in _TEXTS if name in row), _TEXTS[0])
    post = table.text(row, name, where)
    yield summaries.Item(
      post.strip(), table.text(row, "summary", where).strip()
    )


SET = contract.Set(
  about="TL;DR: Reddit posts in a sentence or two",
  files={
    "items": (
      "*tldr*/test*",
      "*tldr*test*.json*",
      "corpus-webis-tldr-17.json",
      "tldr-training-set.jsonl",
    ),
    "examples": ("*tldr*/train*", "*tldr*train*.json*"),
  },
  optional=("examples",),
  published="https://zenodo.org/records/1043504",
  headline="rougeL",
  options=summaries.OPTIONS,
  measure=measure,
)
