"""Learning curves: which metrics are drawn, and as what."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.report import captions

Line = tuple[Sequence[float], Sequence[float]]  # steps, values
Panel = tuple[str, str, dict[str, Line]]  # title, unit, lines by name

# A panel each, in this order; what a run measured on
# validation data is drawn into the panel of its name.
CURVES = {
  "pretraining/loss": ("Loss on text", "nats a token"),
  "demonstrations/loss": ("Loss on demonstrations", "nats a token"),
  "rankings/loss": ("Ranking loss (equation 1)", "nats a pair"),
  "rankings/accuracy": ("Accuracy on ranked pairs", "share"),
  "rankings/log_loss": ("Log loss on ranked pairs", "nats a pair"),
  "objective/score": ("Reward model's score", "score"),
  "judge/likert": ("Judge's grade of the responses", "Likert, 1 to 7"),
  "judge/score": ("Judge's score of the responses", "score, 0 to 1"),
  "objective/kl": ("KL from where RL started", "nats a response"),
  "objective/kl_coef": ("KL coefficient β", "β"),
  "objective/return": ("Return: score - β KL", "score"),
  "policy/loss": ("Policy loss", "loss"),
  "policy/entropy": ("Entropy", "nats a token"),
  "policy/clip_fraction": ("Share of clipped ratios", "share"),
  "policy/approx_kl": ("KL from the sampling policy", "nats a token"),
  "policy/ratio_first_minibatch": ("Ratio in the first minibatch", "ratio"),
  "value/loss": ("Value loss", "loss"),
  "value/explained_variance": ("Explained variance of returns", "share"),
  "value/clip_fraction": ("Share of clipped values", "share"),
  "ptx/loss": ("Loss on pretraining text (ptx)", "nats a token"),
  "response/length": ("Length of responses", "tokens"),
  "response/end_rate": ("Responses that end by themselves", "share"),
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
      title, unit = CURVES.get(name) or _unlisted(name)
      yield title, unit, lines


def _unlisted(name: str) -> tuple[str, str]:
  """'gradient/policy_norm' -> ('Gradient: policy norm', 'norm')."""
  group, _, measure = captions.words(name).partition("/")
  return f"{group.capitalize()}: {measure}", measure.rpartition(" ")[2]


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
    "score": ("SFT epochs: reward model's score", "score"),
    "loss": ("SFT epochs: validation loss", "nats a token"),
  }
  for measure, (title, unit) in titles.items():
    prefix = f"select/{measure}/"
    points = sorted(
      (int(name.removeprefix(prefix)), value)
      for name, value in final.items()
      if name.startswith(prefix) and name.removeprefix(prefix).isdigit()
    )
    if points:
      steps, values = zip(*points)
      yield title, unit, {"validation": (steps, values)}
