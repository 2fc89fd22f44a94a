"""Learning curves: which metrics are drawn, and as what."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.report import captions

Line = tuple[Sequence[float], Sequence[float]]  # steps, values
Panel = tuple[str, dict[str, Line]]  # title, lines by name

# A panel each, in this order; what a run measured on
# validation data is drawn into the panel of its name.
CURVES = {
  "pretraining/loss": "Loss on text, nats a token",
  "demonstrations/loss": "Loss on demonstrations, nats a token",
  "rankings/loss": "Ranking loss (equation 1)",
  "rankings/accuracy": "Accuracy on ranked pairs",
  "rankings/log_loss": "Log loss on ranked pairs",
  "objective/score": "Reward model's score",
  "objective/kl": "KL from SFT, nats a response",
  "objective/kl_coef": "KL coefficient β",
  "objective/return": "Return: score - β KL",
  "policy/loss": "Policy loss",
  "policy/entropy": "Entropy, nats a token",
  "policy/clip_fraction": "Share of clipped ratios",
  "policy/approx_kl": "KL from the sampling policy",
  "policy/ratio_first_minibatch": "Ratio in the first minibatch",
  "value/loss": "Value loss",
  "value/explained_variance": "Explained variance of returns",
  "value/clip_fraction": "Share of clipped values",
  "ptx/loss": "Loss on pretraining text (ptx)",
  "response/length": "Tokens a response",
  "response/end_rate": "Share that ends by itself",
}
MORE_CURVES = ("gradient/", "optimizer/")  # whatever is logged under these
VALIDATION = "validation/"


def panels(
  log: Sequence[Mapping[str, Any]], results: Mapping[str, Any]
) -> list[Panel]:
  """What is drawn of a run's metrics.jsonl and results."""
  return [*_logged(log), *_selection(results)]


def _logged(log: Sequence[Mapping[str, Any]]) -> Iterator[Panel]:
  names = sorted({name for line in log for name in line})
  more = [name for name in names if name.startswith(MORE_CURVES)]
  for name in [*CURVES, *more]:
    lines = {
      "training": _series(log, name),
      "validation": _series(log, VALIDATION + name),
    }
    lines = {label: line for label, line in lines.items() if line[0]}
    flat = {value for _, values in lines.values() for value in values}
    # A learning rate or a coefficient that never changes says nothing.
    if lines and (len(flat) > 1 or (name in CURVES and "coef" not in name)):
      yield CURVES.get(name, captions.words(name)), lines


def _series(log: Sequence[Mapping[str, Any]], name: str) -> Line:
  """A metric where it was logged and is finite."""
  points = [
    (line["step"], line[name])
    for line in log
    if isinstance(line.get(name), (int, float)) and math.isfinite(line[name])
  ]
  return [step for step, _ in points], [value for _, value in points]


def _selection(results: Mapping[str, Any]) -> Iterator[Panel]:
  """The reward and the loss of every SFT epoch (appendix C.1)."""
  final = results.get("metrics") or {}
  titles = {
    "score": "SFT epochs: reward model's score",
    "loss": "SFT epochs: validation loss",
  }
  for measure, title in titles.items():
    prefix = f"select/{measure}/"
    points = sorted(
      (int(name.removeprefix(prefix)), value)
      for name, value in final.items()
      if name.startswith(prefix) and name.removeprefix(prefix).isdigit()
    )
    if points:
      steps, values = zip(*points)
      yield title, {"validation": (steps, values)}
