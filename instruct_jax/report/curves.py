"""Learning curves: which metrics are drawn, and as what."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from instruct_jax.report import wording

Line = tuple[Sequence[float], Sequence[float]]  # steps, values
Panel = tuple[str, str, dict[str, Line]]  # title, unit, lines by name

# A panel each, in this order; what a run measured on
# validation data is drawn into the panel of its name.
CURVES = {
  "pretraining/loss": ("Loss on text", "nats a token"),
  "demonstrations/loss": ("Loss on demonstrations", "nats a token"),
  # Of a reward model equation 1, of DPO's equation 7, or IPO's squares.
  "rankings/loss": ("Loss on ranked pairs", "loss a pair"),
  "rankings/accuracy": ("Accuracy on ranked pairs", "share"),
  "rankings/log_loss": ("Log loss on ranked pairs", "nats a pair"),
  # β log π / π_ref, the reward of direct preference optimisation.
  "rewards/accuracy": ("Accuracy of the policy's own reward", "share"),
  "rewards/margin": ("Own reward: preferred less rejected", "reward"),
  "rewards/chosen": ("Own reward of preferred responses", "reward"),
  "rewards/rejected": ("Own reward of rejected responses", "reward"),
  "logprobs/chosen": (
    "Log-probability of preferred responses",
    "nats a response",
  ),
  "logprobs/rejected": (
    "Log-probability of rejected responses",
    "nats a response",
  ),
  "policy/forward_kl": (
    "KL from the reference to the policy, on the data's responses",
    "nats a response",
  ),
  "objective/score": ("Reward model's score", "score"),
  "judge/likert": ("Judge's grade of the responses", "Likert, 1 to 7"),
  "judge/score": ("Judge's score of the responses", "score, 0 to 1"),
  "objective/kl": ("KL from the starting policy", "nats a response"),
  "objective/kl_k3": (
    "KL from the starting policy, by the estimator k3",
    "nats a response",
  ),
  "objective/kl_reverse": (
    "Reverse KL, on the starting policy's answers",
    "nats a response",
  ),
  "objective/kl_bound": (
    "Bound on the KL of the best of n from their sampler",
    "nats a response",
  ),
  "objective/kl_coef": ("KL coefficient β", "β"),
  "objective/return": (
    "Return: the score, less β KL where the reward has it",
    "score",
  ),
  "groups/reward_std": (
    "Standard deviation of the returns to one prompt",
    "score",
  ),
  "groups/zero_std": ("Prompts whose returns are all alike", "share"),
  "groups/equal_scores": ("Prompts whose scores are all alike", "share"),
  "best/return": ("Return of the best of n, which they are chosen by", "score"),
  "best/score": ("Reward model's score of the best of n", "score"),
  "best/length": ("Length of the best of n", "tokens"),
  "best/end_rate": ("Best of n that end by themselves", "share"),
  "policy/loss": ("Policy loss", "loss"),
  "policy/entropy": ("Entropy", "nats a token"),
  "policy/clip_fraction": ("Share of clipped ratios", "share"),
  "policy/approx_kl": ("KL from the sampling policy", "nats a token"),
  "policy/kl_k3": ("KL in the loss, by the estimator k3", "nats a token"),
  "kl/loss": ("KL loss: β KL, as the loss has it", "loss"),
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
# What a reader should look for, where one of these is logged.
READING = {
  VALIDATION: "Training and validation together until they part"
  " (over-fitting).",
  "objective/kl": "A KL that rises slowly.",
  "policy/ratio_first_minibatch": "Ratios of 1 in the first minibatch.",
  "groups/zero_std": "Few prompts whose returns are all alike: where one is"
  " measured against the others, these teach nothing.",
  "rewards/margin": "A margin that rises on validation, too. The"
  " log-probability of preferred responses often falls with that of rejected"
  " ones: look at it and at the KL.",
  "objective/kl_reverse": "The starting policy answers all along, so score,"
  " judge and lengths stay level; what is learned shows in the loss and the"
  " reverse KL.",
}


def panels(
  log: Sequence[Mapping[str, Any]], results: Mapping[str, Any]
) -> list[Panel]:
  """What is drawn of a run's metrics.jsonl and results."""
  return [*_logged(log), *_selection(results)]


def reading(logs: Sequence[Sequence[Mapping[str, Any]]]) -> str:
  """The sentences of READING on what is in one of the runs' metrics.jsonl."""
  names = {name for log in logs for line in log for name in line}
  return " ".join(
    sentence
    for metric, sentence in READING.items()
    if metric in names
    or (metric.endswith("/") and any(n.startswith(metric) for n in names))
  )


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
  group, _, measure = wording.words(name).partition("/")
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
