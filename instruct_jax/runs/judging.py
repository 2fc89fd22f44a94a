"""Reward models that judge what others say (`measuring.contract.Scorer`)."""

import functools
from collections.abc import Sequence

import numpy as np
from etils import epath

from instruct_jax.base import errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.inference import context, encode, score
from instruct_jax.measuring import contract
from instruct_jax.runs import reading, records, references, stages
from instruct_jax.tokenizers import templates

_NEED = "reward"  # that a reference must hand on
_ROWS = 64  # of a batch
_ACCURACY = "reward/accuracy/"  # of a run's metrics, by group of labelers


def scorer(path: str) -> contract.Scorer:
  """The reward model of a run or hf:/path; UserError where it is none."""
  try:
    there = references.resolve(_NEED, path)
  except errors.UserError as error:
    said = str(error).replace(stages.key_of(_NEED), "--scorer")
    raise errors.UserError(said) from None

  @functools.cache
  def opened():
    ctx = reading.open_context(there.folder)
    return ctx, reading.load_parameters(there.folder, ctx, _NEED)

  def of_texts(prompts, answers, ended):
    ctx, params = opened()
    return _scores(ctx, params, prompts, answers, ended)

  bare = path.removeprefix(hf_folder.PREFIX).rstrip("/")
  return contract.Scorer(
    name=epath.Path(bare).name or bare,
    described={"run": path, "digest": there.digest},
    accuracy=_accuracy(path),
    score=of_texts,
  )


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
  params: dict,
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
