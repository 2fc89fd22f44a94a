"""Validation: the same `collect` and `loss`, on rows that never change."""

import functools
import itertools
import logging
import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from instruct_jax import algorithms
from instruct_jax.base import compilation, journal, means, phases
from instruct_jax.data.batch import loader
from instruct_jax.inference import batching, respond, score
from instruct_jax.parallel import slices
from instruct_jax.training import gradient, judging, step

_log = logging.getLogger(__name__)

_SMALL = 2**26  # bytes of keys and values that samples may take for it


class Validation:
  """Metrics and samples of a state, on the validation rows by kind.

  What is not among these rows is read when it is asked for.
  """

  def __init__(
    self, run: step.Run, log: journal.Log, rows: Mapping[str, loader.Rows]
  ):
    self._run, self._log = run, log
    self._rows = dict(rows)
    self._losses = jax.jit(
      self._validation_losses,
      compiler_options=compilation.options(run.ctx.mesh),
    )
    self._judged = judging.Judging(run.ctx, run.algorithm, "validation")
    # The same at every step, so that steps can be compared.
    self._key = jax.random.fold_in(run.root, zlib.crc32(b"validation"))
    self._samples_key = jax.random.fold_in(run.root, zlib.crc32(b"samples"))

  def measure(self, done: step.Done) -> None:
    """Adds `validation/...` to the step's metrics where that is due."""
    if done.is_due(self._run.ctx.config.validate_every):
      with phases.whole("validation") as made:
        metrics = self.metrics(done.state)
        made(metrics)
      done.metrics |= metrics

  def show(self, done: step.Done) -> None:
    """Writes samples into the journal where that is due."""
    if done.is_due(self._run.ctx.config.samples_every):
      with phases.whole("samples"):
        self._log.samples(done.number, self.samples(done.state))

  def metrics(self, state: algorithms.State) -> dict:
    """`validation/...` metrics (sum, weight), without dropout."""
    ctx, algorithm, total = self._run.ctx, self._run.algorithm, {}
    sizes = algorithms.rows_of(ctx.config.validation)
    of_kinds = [self._open(k).in_order(size) for k, size in sizes.items()]
    rows = itertools.islice(zip(*of_kinds), ctx.config.validate_batches)
    for n, of_batch in enumerate(rows):
      batch = {
        kind: batching.placed(of_kind, ctx.mesh)
        for kind, of_kind in zip(sizes, of_batch)
      }
      key = jax.random.fold_in(self._key, n)
      minibatches, collected = algorithm.collect(ctx, state, batch, key)
      losses = self._losses(state.params, state.frozen, minibatches)
      total = means.add(total, means.add(collected, losses))
      total = means.add(total, self._judged.metrics(batch, minibatches))
    return {f"validation/{name}": value for name, value in total.items()}

  def samples(self, state: algorithms.State) -> list[dict]:
    """A few validation prompts with the responses of the role that speaks."""
    ctx, algorithm = self._run.ctx, self._run.algorithm
    role, count = algorithm.speaker, ctx.config.samples
    if not role or not count:
      return []
    if not ctx.world.holds(ctx.config.data, "prompts"):
      _log.info("no samples: there are no prompts (data.prompts is empty)")
      return []
    rows = self._open("prompts")
    prompts = [rows.source[int(i)]["prompt"] for i in rows.index[:count]]
    params = state.ema.get(role, state.params[role])
    count = self._at_a_time(count)
    policy = respond.policy_of(ctx, params, rows=count)
    said = respond.respond(policy, prompts, self._samples_key)
    table = [
      {"prompt": prompt, "response": text}
      for prompt, text in zip(prompts, said.texts)
    ]
    if algorithm.is_rewarded:
      scores = score.rewards_of(
        ctx, state.frozen.get("reward"), prompts, said, rows=count
      )
      for row, value in zip(table, scores):
        row["score"] = float(value)
    return table

  def _at_a_time(self, count):
    """How many samples are answered and scored at a time: as many as by the
    evaluations, whose programs then are these, where that is little memory."""
    ctx, rows = self._run.ctx, self._run.ctx.config.evaluation.batch
    c, data = ctx.policy.config, ctx.config.data
    tokens = rows * (data.prompt_length + data.response_length)
    cache = 2 * c.layers * c.kv_heads * c.head_size * tokens
    small = cache * jnp.dtype(c.dtype).itemsize <= _SMALL
    return max(rows, count) if small else count

  def _open(self, kind):
    ctx = self._run.ctx
    if kind not in self._rows:
      self._rows[kind] = ctx.rows(
        kind, "validation", packed=ctx.config.data.packing
      )
    return self._rows[kind]

  def _validation_losses(self, params, frozen, minibatches):
    """The losses' metrics, added up over all minibatches.

    A part at a time and in the slices of an update, so that what fits into
    memory there does so here.
    """
    run = self._run

    def of_part(part, rows):
      terms_and_metrics = run.algorithm.loss(
        run.ctx, params, frozen, {part: rows}, None
      )
      return gradient.with_losses(*terms_and_metrics)

    total = {}
    for part, rows in sorted(minibatches.items()):
      size = jax.tree.leaves(rows)[0].shape[1]
      count = slices.most(size, run.ctx.config.microbatches)
      each = jax.lax.map(
        lambda rows, part=part, count=count: jax.lax.map(
          functools.partial(of_part, part), slices.split(rows, count)
        ),
        rows,
      )
      total = means.add(total, jax.tree.map(jnp.sum, each))
    return total
