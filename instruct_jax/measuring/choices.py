"""Which of several continuations a model finds likeliest, as benchmarks ask.

I items. A choice is taken by the sum of its tokens' log-probabilities, or by
that for each UTF-8 byte of it (lm-evaluation-harness's `acc` and `acc_norm`):
long continuations are less likely for being long.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from instruct_jax.measuring import contract, models
from instruct_jax.scoring import tasks


@dataclasses.dataclass(frozen=True)
class Item:
  """A question with its choices, one of which is right.

  Each choice follows the context, or, where there are several contexts, its
  own (WSC, Winogrande: what follows the blank is the same for all).
  """

  contexts: tuple[str, ...]  # one, or one a choice
  choices: tuple[str, ...]
  answer: int
  about: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def asked(self) -> list[tuple[str, str]]:
    """The (context, continuation) pairs."""
    contexts = self.contexts
    if len(contexts) == 1:
      contexts *= len(self.choices)
    return list(zip(contexts, self.choices, strict=True))


def measure(
  model: models.Model,
  items: Sequence[Item],
  clusters: Sequence[Any] | None = None,
) -> contract.Measured:
  """`accuracy` and `accuracy_normalised` (by bytes), fractions.

  `clusters` label items that are no independent ones (`tasks.mean`).
  """
  pairs = [pair for item in items for pair in item.asked]
  said = model.likelihoods(pairs)
  right, normalised, samples, at = [], [], [], 0
  cut = 0
  for item in items:
    mine = said[at : at + len(item.choices)]
    at += len(item.choices)
    sums = np.asarray([one.logprob for one in mine])
    sizes = np.asarray([max(1, len(x.encode())) for x in item.choices])
    taken, by_byte = int(sums.argmax()), int((sums / sizes).argmax())
    right.append(float(taken == item.answer))
    normalised.append(float(by_byte == item.answer))
    cut += any(one.is_cut for one in mine)
    samples.append(
      {
        "prompt": item.contexts[0] if len(item.contexts) == 1 else "",
        "choices": [x + y for x, y in item.asked]
        if len(item.contexts) > 1
        else list(item.choices),
        "answer": item.answer,
        "taken": taken,
        "taken_normalised": by_byte,
        "logprobs": [round(float(x), 5) for x in sums],
        **item.about,
      }
    )
  metrics = {
    "accuracy": tasks.mean(right, clusters),
    "accuracy_normalised": tasks.mean(normalised, clusters),
  }
  return contract.Measured(metrics, samples, cut_counts(cut))


def cut_counts(cut: int) -> dict[str, int]:
  """What `counts` says of so many items whose beginning was not read."""
  return {"contexts cut on the left": cut} if cut else {}
