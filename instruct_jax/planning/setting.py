"""A run that is not set up: the shapes of its state and its rows, on a mesh.

The mesh may be of devices that are not here. Nothing is read: no data set, no
checkpoint, no tokenizer; the vocabulary has as many tokens as `config.data`
asks for.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from instruct_jax import algorithms, paper, tokenizers
from instruct_jax.inference import context
from instruct_jax.models import forward, heads
from instruct_jax.parallel import sharding
from instruct_jax.training import placing, step


@dataclasses.dataclass(frozen=True)
class Setting:
  """Shapes and their places."""

  run: step.Run
  state: algorithms.State  # of jax.ShapeDtypeStruct
  batch: dict[str, Any]  # {kind: the shapes of its rows}

  @property
  def ctx(self) -> context.Context:
    """The run's constants."""
    return self.run.ctx


def of(config: ConfigDict, mesh: Mesh) -> Setting:
  """The setting of a training config on a mesh.

  Raises UserError where the mesh does not divide what lies on it.
  """
  vocab_size = config.model.vocab_size or config.data.vocab_size
  policy, scalar = context.decoders(config, vocab_size)
  ctx = context.Context(
    config=config,
    policy=heads.LanguageModel(policy),
    scalar=heads.ScalarModel(scalar),
    # pyrefly: ignore[bad-argument-type]  # a constant where a field is
    tokenizer=tokenizers.ByteTokenizer(),
    mesh=mesh,
    folders={},
  )
  algorithm = algorithms.named(config.algorithm)
  run, create = step.outline(ctx, algorithm, max(1, config.steps))

  def first(key):
    # Whatever the algorithm starts from is one of the two models.
    return create(
      key,
      {
        role: forward.init_params(ctx.model(role), key)
        for role in ("policy", "reward")
      },
    )

  state = jax.eval_shape(first, jax.random.key(0))
  places = placing.places(state, mesh, config.layout)
  return Setting(run, placed(state, places), batch_of(ctx))


def shape(mesh: Mesh, layout: P, *dims: int, dtype: Any = jnp.int32) -> Any:
  """An array that is not there."""
  place = NamedSharding(mesh, layout)
  return jax.ShapeDtypeStruct(dims, dtype, sharding=place)


def placed(shapes: Any, places: Any) -> Any:
  """Shapes with their places."""
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    shapes,
    places,
  )


def batch_of(ctx: context.Context) -> dict[str, Any]:
  """The shapes of a step's rows, by kind of data."""
  config = ctx.config
  prompt, response = config.data.prompt_length, config.data.response_length
  rows_of = algorithms.rows_of(config.batch)
  return {
    kind: _rows_of(ctx, kind, rows, prompt, response)
    for kind, rows in rows_of.items()
  }


def _rows_of(ctx, kind, rows, prompt, response):
  of_rows = functools.partial(shape, ctx.mesh, sharding.BATCH)
  is_ = functools.partial(of_rows, dtype=bool)
  prompts = {"prompt": of_rows(rows, prompt), "is_prompt": is_(rows, prompt)}
  if kind == "prompts":
    return prompts | {"index": of_rows(rows)}
  if kind == "demonstrations":
    return prompts | {
      "response": of_rows(rows, response),
      "is_response": is_(rows, response),
    }
  if kind == "rankings":
    count = ctx.config.data.k_max or paper.K_MAX
    return prompts | {
      "response": of_rows(rows, count, response),
      "is_response": is_(rows, count, response),
      "is_completion": is_(rows, count),
      "beats": is_(rows, count, count),
    }
  length = ctx.config.data.row_length
  return {"tokens": of_rows(rows, length), "is_token": is_(rows, length)}
