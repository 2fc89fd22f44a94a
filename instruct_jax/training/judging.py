"""What the judge of a world makes of the episodes that training samples.

Reward-model scores rise while policies are optimised against them, whatever
happens to quality (Gao et al. 2022, Scaling Laws for Reward Model
Overoptimization): where a world has a judge, its mean grades are logged beside
them. Nothing is learned from these grades.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from instruct_jax import algorithms
from instruct_jax.data.batch import loader
from instruct_jax.inference import context
from instruct_jax.parallel import hosts

GRADES = ("likert", "score")  # what every judge gives
_EPISODE = ("prompt", "is_prompt", "response", "is_response")


class Judging:
  """The judge's mean grades of a step's episodes, of one split's prompts.

  Of an algorithm that is rewarded, the first part of its minibatches with
  prompts and responses holds the episodes; of others, and in a world without a
  judge, there is nothing to grade.
  """

  def __init__(
    self, ctx: context.Context, algorithm: algorithms.Algorithm, split: str
  ):
    self._ctx, self._algorithm, self._split = ctx, algorithm, split
    self._records = None

  def metrics(
    self, batch: Mapping[str, Any], minibatches: Mapping[str, Any]
  ) -> dict[str, tuple[float, float]]:
    """judge/likert and judge/score as (sum, weight); {} without a judge.

    Every process calls it: episodes are fetched from all of them.
    """
    judge = self._ctx.world.judge
    if judge is None or not self._algorithm.is_rewarded:
      return {}
    parts = (p for p in minibatches.values() if set(_EPISODE) <= set(p))
    part = next(parts, None)
    if part is None or "prompts" not in batch:
      return {}
    asked, said = hosts.fetch(
      (dict(batch["prompts"]), {name: part[name] for name in _EPISODE})
    )
    said = {name: x.reshape(-1, x.shape[-1]) for name, x in said.items()}
    grades = self._grades(judge, self._specs(asked), said)
    return {
      f"judge/{name}": (float(sum(g[name] for g in grades)), float(len(grades)))
      for name in GRADES
    }

  def _specs(self, asked: Mapping[str, np.ndarray]) -> dict[bytes, str]:
    """The specs of a batch's prompts, by their tokens: rows are permuted."""
    if self._records is None:
      ctx = self._ctx
      self._records = ctx.world.records(
        ctx.config.data, "prompts", self._split, ctx.folders
      )
    return {
      _tokens(prompt, mask): self._records[int(index)]["spec"]
      for prompt, mask, index in zip(
        asked["prompt"], asked["is_prompt"], asked["index"]
      )
      if index >= 0
    }

  def _grades(self, judge, specs, said):
    """The grades of all episodes; rows that only fill a batch up have none."""
    ends = self._ctx.stop_ids
    response, mask = said["response"], said["is_response"]
    ended = (np.isin(response, ends) & mask).any(axis=1)
    # Judges see one end token, whichever of the stop tokens was sampled.
    judged = np.where(np.isin(response, ends), ends[0], response)
    texts = loader.decode_responses(judged, mask, self._ctx.tokenizer)
    return [
      judge.grade(specs[_tokens(prompt, real)], text, bool(end))
      for prompt, real, text, end, is_episode in zip(
        said["prompt"], said["is_prompt"], texts, ended, mask.any(axis=1)
      )
      if is_episode
    ]


def _tokens(prompt: np.ndarray, is_prompt: np.ndarray) -> bytes:
  return np.asarray(prompt[is_prompt], np.int32).tobytes()
