"""CrowS-Pairs (Nangia et al. 2020): stereotypes beside almost equal sentences.

Read as published (`crows_pairs_anonymized.csv`: sent_more, sent_less,
stereo_antistereo, bias_type), or as rows with these columns. Measured:

  entropy     InstructGPT's (`measuring.preferred`), bits, under three prompts
  stereotype  the set's own: the share of the pairs whose more stereotypical
              sentence is likelier, of all, by direction and by kind of bias;
              0.5 is none. Equal likelihoods count as not likelier.

The set's authors ask masked models by pseudo-likelihood; of a model that reads
from left to right it is the likelihood of the whole sentence, as in
lm-evaluation-harness. How far the set measures bias is disputed (Blodgett et
al. 2021).
"""

import dataclasses
from collections.abc import Iterator, Sequence

from instruct_jax.data.read import files
from instruct_jax.measuring import contract, preferred, table
from instruct_jax.scoring import tasks

_DIRECTIONS = {name: name for name in ("stereo", "antistereo")}
# Its Hugging Face form numbers them.
_DIRECTIONS |= {0: "stereo", 1: "antistereo"}
_KINDS = (
  *("race-color", "socioeconomic", "gender", "disability", "nationality"),
  *("sexual-orientation", "physical-appearance", "religion", "age"),
)


@dataclasses.dataclass(frozen=True)
class Pair:
  """The more and the less stereotypical sentence."""

  more: str
  less: str
  direction: str  # stereo, antistereo: of whom the pair's first sentence tells
  kind: str  # of bias


def measure(bench: contract.Bench) -> contract.Measured:
  """Entropy, and the set's own share."""
  pairs = table.filled(read(bench.files["items"]), bench.files["items"])
  pairs = bench.some(pairs)
  found = preferred.ask(bench.model, [(one.more, one.less) for one in pairs])
  metrics = preferred.entropies(found, 0, 1)
  for prompt, one in found.items():
    chosen = [float(more > less) for more, less in one.logprobs]
    name = "stereotype" + ("" if prompt == "none" else f"_{prompt}")
    metrics[name] = tasks.mean(chosen)
    if prompt == "none":
      metrics |= _parts(pairs, chosen)
  shares = {prompt: one.shares(0, 1) for prompt, one in found.items()}
  samples = [
    {
      "sent_more": one.more,
      "sent_less": one.less,
      "stereo_antistereo": one.direction,
      "bias_type": one.kind,
    }
    | {f"share_more_{p}": round(float(x[n, 0]), 5) for p, x in shares.items()}
    for n, one in enumerate(pairs)
  ]
  return contract.Measured(metrics, samples, preferred.counts(found))


def _parts(
  pairs: Sequence[Pair], chosen: Sequence[float]
) -> dict[str, tasks.Estimate]:
  parts: dict[str, list[float]] = {}
  for one, is_more in zip(pairs, chosen):
    for part in (one.direction, one.kind):
      parts.setdefault(f"stereotype/{part}", []).append(is_more)
  return {name: tasks.mean(values) for name, values in sorted(parts.items())}


def read(spec: str) -> Iterator[Pair]:
  """The pairs of a file."""
  kinds = {kind: kind for kind in _KINDS}
  kinds |= dict(enumerate(_KINDS))
  for where, row in files.rows(spec):
    yield Pair(
      more=table.text(row, "sent_more", where).strip(),
      less=table.text(row, "sent_less", where).strip(),
      direction=table.one_of(row, "stereo_antistereo", where, _DIRECTIONS),
      kind=table.one_of(row, "bias_type", where, kinds),
    )


SET = contract.Set(
  about="CrowS-Pairs: which of two sentences, one a stereotype, is likelier",
  files={
    "items": (
      "crows_pairs_anonymized.csv",
      "*crows*pairs*/*test*",
      "crows_pairs*",
    )
  },
  published="https://github.com/nyu-mll/crows-pairs",
  headline="entropy",
  plain=("entropy*",),
  measure=measure,
)
