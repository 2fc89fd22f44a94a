"""Summaries of texts, asked for as people on Reddit give them: "TL;DR:"."""

import dataclasses
from collections.abc import Callable, Iterator

from instruct_jax.measuring import contract, prompts, shots, table
from instruct_jax.scoring import tasks, texts

OPTIONS = {"shots": "texts with their summaries before each"}
_END = "\n\nTL;DR:"


@dataclasses.dataclass(frozen=True)
class Item:
  """A text and what somebody made of it."""

  text: str
  summary: str

  @property
  def shown(self) -> str:
    """The whole as an example; a summary is one line."""
    return f"{self.text}{_END} {' '.join(self.summary.split())}\n\n"


Read = Callable[[str], Iterator[Item]]


def measure(
  bench: contract.Bench, read: Read, max_tokens: int
) -> contract.Measured:
  """ROUGE-L (rouge-score's F measure, without stemming), a fraction.

  What a model says is one line. A text that is too long loses its end: what
  news begin with is the most of it. Items without a text or a summary are left
  out, and counted.
  """
  items, empty = _filled(read, bench.files["items"])
  spec = bench.files.get("examples")
  choose = shots.chooser(
    bench,
    lambda: [
      (one.text, one.shown)
      for one in (_filled(read, spec)[0] if spec else items)
    ],
  )
  asked = bench.some(items)
  said = prompts.ask(
    bench.model,
    [
      prompts.Prompt(examples=choose(one.text), passage=one.text, end=_END)
      for one in asked
    ],
    max_tokens=max_tokens,
  )
  scores = [
    texts.rouge_l(text, [item.summary]) for item, text in zip(asked, said.texts)
  ]
  samples = [
    {
      "context": prompt,
      tasks.SAMPLE: text,
      tasks.REFERENCES: [item.summary],
      "rougeL": score,
    }
    for item, prompt, text, score in zip(
      asked, said.prompts, said.texts, scores
    )
  ]
  counts = said.counts
  if empty:
    counts = counts | {"items without text or summary, left out": empty}
  metrics = {"rougeL": tasks.mean(scores)}
  return contract.Measured(metrics, samples, counts)


def _filled(read: Read, spec: str) -> tuple[list[Item], int]:
  """The items of a file that have both, and how many have not."""
  items = table.filled(read(spec), spec)
  kept = [one for one in items if one.text.strip() and one.summary.strip()]
  return table.filled(iter(kept), spec), len(items) - len(kept)
