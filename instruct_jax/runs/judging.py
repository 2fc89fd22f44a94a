"""Reward models that judge what others say (`measuring.contract.Scorer`)."""

import functools
from collections.abc import Sequence

import numpy as np
from etils import epath

from instruct_jax.base import errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.inference import context, encode, rewards, score
from instruct_jax.measuring import contract
from instruct_jax.runs import needed, reading, records, references
from instruct_jax.tokenizers import templates

_NEED = "reward"  # that a reference must hand on
_ROWS = 64  # of a batch
_ACCURACY = "reward/accuracy/"  # of a run's metrics, by group of labelers


def scorer(path: str, combine: str = "mean") -> contract.Scorer:
  """The reward model of a run or hf:/path; UserError where it is none.

  Several, with commas between, judge together, as `config.reward.model.combine`
  says. All are shown what the first one's template makes of a prompt.
  """
  there = [_resolved(one) for one in rewards.named(path).values()]

  @functools.cache
  def opened():
    ctx = reading.open_context(there[0].folder)
    for other in there[1:]:
      if reading.speaks_other_words(other.folder, ctx):
        raise errors.UserError(
          f"--scorer: {there[0].folder} and {other.folder} have different"
          " tokenizers"
        )
    needs = rewards.needs(len(there))
    folders = {need: one.folder for need, one in zip(needs, there)}
    return reading.by_model_alone(ctx, combine), reading.load_rewards(
      folders, ctx
    )

  def of_texts(prompts, answers, ended):
    ctx, params = opened()
    return _scores(ctx, params, prompts, answers, ended)

  bare = path.removeprefix(hf_folder.PREFIX).rstrip("/")
  digests = ",".join(one.digest for one in there)
  several = {"combine": combine} if len(there) > 1 else {}
  return contract.Scorer(
    name=epath.Path(bare).name or bare,
    described={"run": path, "digest": digests} | several,
    accuracy=_accuracy(path) if not several else {},
    score=of_texts,
  )


def _resolved(path: str) -> references.Given:
  try:
    return references.resolve(_NEED, path)
  except errors.UserError as error:
    said = str(error).replace(needed.key_of(_NEED), "--scorer")
    raise errors.UserError(said) from None


def _accuracy(path: str) -> dict[str, float]:
  """What the run found on held-out comparisons; {} of what is no run."""
  metrics = records.read_results(path).get("metrics") or {}
  return {
    f"held-out comparisons, {name.removeprefix(_ACCURACY)}": value
    for name, value in metrics.items()
    if name.startswith(_ACCURACY)
  }


def _scores(
  ctx: context.Context,
  params: rewards.Models,
  prompts: Sequence[str],
  answers: Sequence[str],
  ended: Sequence[bool],
) -> np.ndarray:
  """Scores [N] float64; NaN where the prompt is longer than the model reads."""
  template = ctx.config.data.template
  width = encode.width_of(ctx, template)
  lengths = map(len, templates.encode(prompts, ctx.tokenizer, template))
  fits = [n for n, length in enumerate(lengths) if length <= width]
  found = np.full(len(prompts), np.nan)
  if fits:
    sequences = encode.sequences(
      ctx,
      [prompts[n] for n in fits],
      [answers[n] for n in fits],
      [ended[n] for n in fits],
      template=template,
    )
    found[fits] = score.model_scores(ctx, params, sequences, rows=_ROWS)
  return found
