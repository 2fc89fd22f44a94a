"""Simulated labelers: each weighs the judge's axes in his own way.

A labeler's utility is a weighted sum of the axes, his group's taste (training
labelers like longer and more adorned answers, held-out ones plain and short
ones), and noise. The noise is a hash of (labeler, prompt, response), so that
the same labeler says the same again, whatever was asked in between.
"""

import dataclasses
import functools
import hashlib
import math
import random
from collections.abc import Mapping, Sequence

WEIGHTS = {
  "instruction": 1.4,
  "quality": 2.4,
  "constraint": 0.9,
  "truthful": 1.2,
  "no_hallucination": 1.2,
  "non_toxic": 1.0,
  "appropriate": 1.0,
  "harmless": 1.0,
}
SPREAD = 0.35  # of the logarithm of each weight
NOISE = 1.2  # standard deviation: agreement as in the paper (3.4)
TRAINING = 10
HELD_OUT = 5
# group -> mean taste for length and adornment, standard deviation, noise
TASTES = {
  "training": (0.25, 0.25, 0.25, 1.0),
  "held_out": (-0.3, -0.25, 0.25, 0.85),
}


@dataclasses.dataclass(frozen=True)
class Labeler:
  """One simulated person who compares responses."""

  name: str
  group: str  # 'training' or 'held_out'
  weights: tuple[tuple[str, float], ...]
  length: float
  adornment: float
  noise: float

  def mean_utility(self, grades: Mapping[str, float]) -> float:
    """The utility without noise of a response with these grades."""
    total = sum(weight * grades[axis] for axis, weight in self.weights)
    total += self.length * grades["length"]
    return total + self.adornment * grades["adornment"]

  def utility(
    self, prompt: str, response: str, grades: Mapping[str, float]
  ) -> float:
    """What this labeler thinks of the response; higher is better."""
    noise = _normal(f"{self.name}\0{prompt}\0{response}")
    return self.mean_utility(grades) + self.noise * noise

  def rank(
    self,
    prompt: str,
    responses: Sequence[str],
    grades: Sequence[Mapping[str, float]],
    *,
    margin: float = 0.0,
  ) -> list[int]:
    """Ranks of the responses, 1 the best; identical texts tie.

    With a margin, a response less than `margin` below the next better one
    shares its rank.
    """
    worth = [self.utility(prompt, r, g) for r, g in zip(responses, grades)]
    # Identical texts may differ in `ended`: the better grade counts for both.
    best: dict[str, float] = {}
    for response, value in zip(responses, worth):
      best[response] = max(value, best.get(response, -math.inf))
    order = sorted(best, key=lambda response: -best[response])
    ranks: dict[str, int] = {}
    for place, response in enumerate(order):
      above = order[place - 1] if place else None
      close = above is not None and best[above] - best[response] < margin
      ranks[response] = ranks[above] if close else place + 1
    return [ranks[response] for response in responses]


def _normal(key: str) -> float:
  """A standard normal number that only depends on the key."""
  digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
  u = (int.from_bytes(digest[:8], "big") + 1) / (2**64 + 1)
  v = int.from_bytes(digest[8:], "big") / 2**64
  return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)


def _make(group: str, number: int) -> Labeler:
  rng = random.Random(f"labeler {group} {number}")
  length, adornment, spread, noise = TASTES[group]
  return Labeler(
    f"{group}-{number}",
    group,
    tuple((k, w * rng.lognormvariate(0, SPREAD)) for k, w in WEIGHTS.items()),
    rng.gauss(length, spread),
    rng.gauss(adornment, spread),
    NOISE * noise,
  )


@functools.cache
def training() -> tuple[Labeler, ...]:
  """The ten labelers who make the rankings that the reward model reads."""
  return tuple(_make("training", i) for i in range(TRAINING))


@functools.cache
def held_out() -> tuple[Labeler, ...]:
  """Five labelers who made none of them (section 5.1)."""
  return tuple(_make("held_out", i) for i in range(HELD_OUT))


GROUPS = {"training": training, "held_out": held_out}
