"""LAMBADA (Paperno et al. 2016): the last word of a passage.

Read as published (`lambada_test_plain_text.txt`, a passage a line), as OpenAI
gives it out (`lambada_test.jsonl`: text), or as rows with a `text`. The word is
right if greedy decoding would say it; beside that the perplexity of the words.
Zero-shot the passage itself is continued; with shots it is GPT-3's cloze: what
is missing stands as a blank, and an arrow before the word.
"""

import dataclasses
import math
from collections.abc import Iterator

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import choices, contract, options, questions, table
from instruct_jax.scoring import tasks

INSTRUCTION = "Fill in blank:"
BLANK = "____."


def measure(bench: contract.Bench) -> contract.Measured:
  """Accuracy, perplexity by word and the mean log-probability, in nats."""
  if options.whole(bench, "shots", 0):
    given = questions.asked(bench, _cloze, INSTRUCTION)
  else:
    given = questions.asked(bench, read)
  asked = [
    (prompt, one.choices[0])
    for prompt, one in zip(given.prompts, given.questions)
  ]
  said = bench.model.likelihoods(asked)
  nats = tasks.mean([one.logprob for one in said])
  perplexity = math.exp(min(-nats.value, 700.0))
  spread = None if nats.stderr is None else perplexity * nats.stderr
  metrics = {
    "accuracy": tasks.mean([float(one.is_greedy) for one in said]),
    "perplexity": tasks.Estimate(perplexity, spread, nats.n),
    "logprob": nats,
  }
  samples = [
    {
      "prompt": prompt,
      "word": word.strip(),
      "logprob": round(one.logprob, 5),
      "is_greedy": one.is_greedy,
    }
    for (prompt, word), one in zip(asked, said)
  ]
  cut = sum(one.is_cut for one in said)
  counts = given.counts | choices.cut_counts(cut)
  return contract.Measured(metrics, samples, counts)


def read(spec: str) -> Iterator[questions.Question]:
  """The passages of a file up to their last word."""
  for where, text in _texts(spec):
    before, _, word = text.strip().rpartition(" ")
    if not before.strip():
      raise errors.UserError(
        f"{where}: a passage has several words, not {text[:60]!r}"
      )
    yield questions.Question(before.rstrip(), (f" {word}",), 0, group=text)


def _cloze(spec: str) -> Iterator[questions.Question]:
  for one in read(spec):
    shown = f"{one.shown} {BLANK} ->"
    yield dataclasses.replace(one, shown=shown)


def _texts(spec: str) -> Iterator[tuple[str, str]]:
  for unit in files.units(spec):
    if isinstance(unit, str) or files.holds_objects(unit):
      for where, row in files.unit_rows(unit):
        yield where, table.text(row, "text", where)
    else:
      for number, line in files.lines(unit):
        if line.strip():
          yield f"{unit}:{number}", line


SET = contract.Set(
  about="LAMBADA: the last word of a passage",
  files={
    "items": ("lambada_test*", "*lambada*/test*"),
    "examples": ("lambada_development*", "*lambada*/valid*"),
  },
  published="https://zenodo.org/records/2630551",
  headline="accuracy",
  optional=("examples",),
  options=questions.SHOTS,
  plain=("perplexity", "logprob"),
  measure=measure,
)
