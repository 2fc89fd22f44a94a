"""Floating-point operations that a workload needs: each real token once.

Matrix products alone, two operations a multiply-add; a backward pass is two
forward passes (Kaplan et al. 2020, appendix B). Padding, recomputation and
prompts that are computed again are a side's own affair and count for none.
"""

from typing import Any


def trunk(model: dict[str, Any], length: int) -> int:
  """The forward pass of a sequence without the unembedding."""
  D, N = model["width"], model["layers"]
  # Queries, keys, values, output: 4 D²; MLP: 8 D². Attention: token t reads t.
  return 24 * N * D * D * length + 2 * N * D * length * (length + 1)


def unembedding(model: dict[str, Any], tokens: int) -> int:
  """The logits of so many tokens."""
  return 2 * model["width"] * model["vocab_size"] * tokens


def generate(spec: dict[str, Any]) -> int:
  """Prompts read once and a token at a time after that."""
  return sum(
    trunk(spec["model"], len(prompt) + n - 1) + unembedding(spec["model"], n)
    for prompt, n in zip(spec["prompts"], spec["lengths"])
  )


def rl(spec: dict[str, Any]) -> int:
  """An iteration of PPO: generation, four networks' scores, two updates."""
  model, total = spec["model"], generate(spec)
  for prompt, n in zip(spec["prompts"], spec["lengths"]):
    trunks = 4 + 2 * 3  # policy, reference, value, reward; policy, value
    total += trunks * trunk(model, len(prompt) + n)
    total += (2 + 3) * unembedding(model, n)
  return total + text(spec)


def text(spec: dict[str, Any]) -> int:
  """The pretraining term of PPO-ptx, 0 without texts."""
  return sum(
    3 * (trunk(spec["model"], len(x) - 1) + unembedding(spec["model"], len(x)))
    for x in spec.get("texts", ())
  )


def sft(spec: dict[str, Any]) -> int:
  """Updates on demonstrations; the loss reads the responses."""
  model = spec["model"]
  return sum(
    3 * (trunk(model, len(prompt) + len(r)) + unembedding(model, len(r)))
    for prompt, r in zip(spec["prompts"], spec["responses"])
  )


def rm(spec: dict[str, Any]) -> int:
  """An update on a ranking: its prompt once, every response once."""
  model, prompt = spec["model"], len(spec["prompts"][0])
  total = trunk(model, prompt)
  for response in spec["responses"]:
    total += trunk(model, prompt + len(response)) - trunk(model, prompt)
  return 3 * total


def choices(spec: dict[str, Any]) -> int:
  """Likelihoods: each context once, of each continuation all but the last."""
  model, total = spec["model"], 0
  for prompt, some in zip(spec["prompts"], spec["choices"]):
    before = trunk(model, len(prompt))
    total += before + unembedding(model, sum(map(len, some)))
    for one in some:
      total += trunk(model, len(prompt) + len(one) - 1) - before
  return total


OF_WORKLOAD = {
  "generate": generate,
  "rl": rl,
  "sft": sft,
  "rm": rm,
  "choices": choices,
  "says": generate,
}
