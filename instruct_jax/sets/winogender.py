"""Winogender (Rudinger et al. 2018): he, she or they beside an occupation.

Read as published (`all_sentences.tsv`: sentid, sentence; the occupations'
statistics in `occupations-stats.tsv`, without which there is no correlation),
or as rows with these two columns. Measured:

  entropy        InstructGPT's (`measuring.preferred`) of he and she, in bits,
                 under three prompts; `entropy_three` with they
  she            the share of she among he and she, of all sentences and of
                 each occupation where the pronoun means it
  correlation_*  the set's own: of an occupation's preference for she (the mean
                 log-odds where the pronoun means it) with the percentage of
                 women in it, by statistics of labor (bls) and of texts
                 (bergsma)

Standard errors by template: the four sentences of an occupation share two.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import contract, preferred, table
from instruct_jax.scoring import tasks

GENDERS = ("male", "female", "neutral")
_ID = re.compile(r"(\w+)\.(\w+)\.([01])\.(male|female|neutral)\.txt")
_STATISTICS = {"bls": "bls_pct_female", "bergsma": "bergsma_pct_female"}


@dataclasses.dataclass(frozen=True)
class Group:
  """A sentence with each of the pronouns, in the order of GENDERS."""

  occupation: str
  other: str  # who else is in it
  means_occupation: bool  # the pronoun, not the other person
  sentences: tuple[str, ...]

  @property
  def template(self) -> str:
    """That it is of: with the other person, or with `someone` for it."""
    return f"{self.occupation}.{int(self.means_occupation)}"


def measure(bench: contract.Bench) -> contract.Measured:
  """Entropies, shares and correlations."""
  groups = table.filled(read(bench.files["items"]), bench.files["items"])
  groups = bench.some(groups)
  templates = [one.template for one in groups]
  found = preferred.ask(bench.model, [one.sentences for one in groups])
  metrics = preferred.entropies(found, 0, 1, clusters=templates)
  metrics |= preferred.entropies(
    found, 0, 1, 2, name="entropy_three", clusters=templates
  )
  she = found["none"].shares(0, 1)[:, 1]
  metrics["she"] = tasks.mean(she, templates)
  metrics |= _by_occupation(groups, she)
  if "statistics" in bench.files:
    odds = [one[1] - one[0] for one in found["none"].logprobs]
    metrics |= _correlations(groups, odds, bench.files["statistics"])
  shares = {prompt: one.shares(0, 1, 2) for prompt, one in found.items()}
  samples = [
    {
      "occupation": one.occupation,
      "other": one.other,
      "means": "occupation" if one.means_occupation else "other",
      "sentences": list(one.sentences),
    }
    | {f"shares_{p}": x[n].round(5).tolist() for p, x in shares.items()}
    for n, one in enumerate(groups)
  ]
  return contract.Measured(metrics, samples, preferred.counts(found))


def _by_occupation(
  groups: Sequence[Group], values: Sequence[float] | np.ndarray
) -> dict[str, tasks.Estimate]:
  """The mean of each occupation's sentences whose pronoun means it."""
  of: dict[str, list[float]] = {}
  for one, value in zip(groups, values):
    if one.means_occupation:
      of.setdefault(one.occupation, []).append(float(value))
  return {f"she/{name}": tasks.mean(of[name]) for name in sorted(of)}


def _correlations(groups, odds, spec) -> dict[str, tasks.Estimate]:
  by_occupation = _by_occupation(groups, odds)
  known = statistics_of(spec)
  mine = [name for name in known if f"she/{name}" in by_occupation]
  x = [by_occupation[f"she/{name}"].value for name in mine]
  found = {}
  for kind in _STATISTICS:
    y = [known[name][kind] for name in mine]
    if len(mine) > 2 and np.ptp(x) and np.ptp(y):
      found[f"correlation_{kind}"] = correlation(x, y)
  return found


def correlation(x: Sequence[float], y: Sequence[float]) -> tasks.Estimate:
  """Pearson's r, with the standard error sqrt((1 - r²) / (n - 2))."""
  r = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
  n = len(x)
  return tasks.Estimate(r, math.sqrt((1 - r * r) / (n - 2)), n)


def statistics_of(spec: str) -> Mapping[str, Mapping[str, float]]:
  """{occupation: {bls: percent of women, bergsma: ...}} of a file."""
  return {
    table.text(row, "occupation", where): {
      kind: table.number(row, column, where)
      for kind, column in _STATISTICS.items()
    }
    for where, row in table.rows(spec)
  }


def read(spec: str) -> Iterator[Group]:
  """The sentences of a file, those that differ in the pronoun together."""
  found: dict[tuple[str, str, str], dict[str, str]] = {}
  for where, row in files.rows(spec):
    name = table.text(row, "sentid", where)
    match = _ID.fullmatch(name)
    if not match:
      raise errors.UserError(
        f'{where}: "sentid" is like technician.customer.1.male.txt, not'
        f" {name[:60]!r}"
      )
    occupation, other, answer, gender = match.groups()
    sentences = found.setdefault((occupation, other, answer), {})
    if gender in sentences:
      raise errors.UserError(f'{where}: "sentid" {name!r} is there twice')
    sentences[gender] = table.text(row, "sentence", where).strip()
  for (occupation, other, answer), sentences in found.items():
    for gender in GENDERS:
      if gender not in sentences:
        raise errors.UserError(
          f"{spec}: {occupation}.{other}.{answer} has no {gender} sentence"
        )
    yield Group(
      occupation=occupation,
      other=other,
      means_occupation=answer == "0",
      sentences=tuple(sentences[gender] for gender in GENDERS),
    )


SET = contract.Set(
  about="Winogender: whether he or she is likelier beside an occupation",
  files={
    "items": ("all_sentences.tsv", "*winogender*/test*", "winogender*.tsv"),
    "statistics": ("occupations-stats.tsv",),
  },
  published="https://github.com/rudinger/winogender-schemas",
  headline="entropy",
  optional=("statistics",),
  plain=("entropy*", "correlation_*"),
  measure=measure,
)
