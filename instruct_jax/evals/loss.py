"""Held-out loss of the demonstrations' responses, in nats a token."""

import logging

import numpy as np

from instruct_jax.base import errors
from instruct_jax.data.batch import encoding
from instruct_jax.data.read import kinds
from instruct_jax.evals import bench as bench_lib
from instruct_jax.inference import context, encode, score

_log = logging.getLogger(__name__)


@bench_lib.needs("demonstrations")
def evaluate_loss(bench: bench_lib.Bench) -> bench_lib.Findings:
  """loss/demonstrations/SUBJECT, of the subjects that are not prompted."""
  try:
    records = demonstrations(bench.ctx, bench.settings.split)
  except errors.UserError as error:
    _log.warning("loss of the demonstrations is not measured: %s", error)
    return {}, {}
  records = records[: bench.settings.prompts]
  rows = []
  for subject in bench.plain:
    value, tokens = of_demonstrations(
      subject.context(bench.ctx),
      subject.params,
      records,
      rows=bench.settings.batch,
    )
    rows.append(
      {
        "subject": subject.name,
        "value": value,
        "perplexity": float(np.exp(value)),
        "tokens": tokens,
        "metric": f"loss/demonstrations/{subject.name}",
      }
    )
  return bench_lib.findings("loss", rows)


def demonstrations(ctx: context.Context, split: str) -> list[dict]:
  """Each answer of a split's records whose prompt fits; UserError for none."""
  rows = ctx.rows("demonstrations", split)
  records = [rows.source[int(n)] for n in dict.fromkeys(rows.index.tolist())]
  data = ctx.config.data
  last = data.loss_on == "last"
  answered = [
    one
    for record in records
    for one in kinds.exchanges(record, "demonstrations", last=last)
  ]
  if len(answered) == len(records):
    return answered
  # Some may have no room but in a row behind others.
  _, fitting = encoding.fitting_prompts(
    [record["prompt"] for record in answered],
    ctx.tokenizer,
    data.template,
    data.prompt_length,
  )
  return [answered[n] for n in fitting.tolist()]


def of_demonstrations(
  ctx: context.Context,
  policy: dict,
  records: list[dict],
  *,
  rows: int,
) -> tuple[float, int]:
  """(mean - log π of the responses' tokens, their number)."""
  prompts = [record["prompt"] for record in records]
  texts = [record["response"] for record in records]
  sequences = encode.sequences(
    ctx,
    prompts,
    texts,
    [True] * len(texts),
    template=ctx.config.data.template,
  )
  logprobs = score.logprobs(ctx, policy, sequences, rows=rows)
  tokens = int(sequences["is_response"].sum())
  return -float(logprobs.astype(np.float64).sum()) / tokens, tokens
