"""What an algorithm is, and which there are.

An algorithm is a module that ends in

  ALGORITHM = algorithms.Algorithm(init=init, loss=loss, ...)

and that `config.algorithm` names, by its name in MODULES or, in a file of
one's own, by its import path. Two functions must be there, the others have
defaults that do nothing. Their arguments:

  ctx          the constants of the run: config, models, token ids, mesh
  state        all that changes in training: see `State`
  batch        {kind of data: its rows, [rows a step, ...]}, on the mesh
  minibatches  {part: its rows, [updates a step, rows a minibatch, ...]}; the
               parts are differentiated one after the other, into one gradient
  terms        {part: (sum, weight, coefficient)} of a loss; its value is
               coefficient * sum / weight. The weight must come from masks
               alone: it is totalled over the microbatches before any gradient
               is taken, so neither their number nor the mesh changes the value
  metrics      {"group/name": (sum, weight)}, means over all that is added up;
               of "count/..." the sum is logged. Of a loss's metric that ends
               in "_first_minibatch", the first update of a step alone counts
  key          a jax.random key; a loss gets None where nothing may be random:
               in validation and where it only counts weights
  columns      {kind of data: {name: numpy array, a line for each of its rows}}:
               what is computed once for a data set, as a reference's logprobs

Validation is the same `collect` and `loss`, on validation rows and without a
key for the loss; its metrics are logged as "validation/...".
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import numpy as np
from ml_collections import ConfigDict

from instruct_jax.base import errors, outside
from instruct_jax.data.batch import loader
from instruct_jax.inference import context
from instruct_jax.models import sizes

Roles = dict[str, Any]  # {"policy", "value", "reward", ...: parameters}
Rows = dict[str, Any]  # {kind of data or part: {name: array}}
Columns = dict[str, dict[str, np.ndarray]]  # {kind of data: {name: array}}
Metrics = dict[str, tuple[jax.Array | float, jax.Array | float]]
Terms = dict[str, tuple[jax.Array, jax.Array, float]]


@flax.struct.dataclass
class State:
  """All that changes in training, and the frozen networks beside it."""

  step: jax.Array  # [] int32, steps of the loop done
  params: Roles
  optimizer: dict[str, Any]  # by role
  ema: Roles  # averages of the parameters, of the roles that keep one
  frozen: Roles  # reloaded, never checkpointed
  extra: dict[str, jax.Array]  # the algorithm's own, as an adaptive KL's
  counters: dict[str, jax.Array]  # of updates that were skipped

  if TYPE_CHECKING:  # flax adds it, where no checker sees it

    def replace(self, **changes: Any) -> "State":
      """Another state with these fields changed."""
      ...


@jax.jit
def _as_one_minibatch(batch: Rows) -> Rows:
  return jax.tree.map(lambda x: x[None], batch)


def one_minibatch(
  ctx: context.Context, state: State, batch: Rows, key: jax.Array
) -> tuple[Rows, Metrics]:
  """The batch as its own, single minibatch: supervised learning."""
  del ctx, state, key
  return _as_one_minibatch(batch), {}


def same_state(ctx: context.Context, state: State) -> State:
  """The state as it is."""
  del ctx
  return state


def same_extra(
  ctx: context.Context, extra: dict[str, jax.Array], metrics: Metrics
) -> dict[str, jax.Array]:
  """The extra values as they are."""
  del ctx, metrics
  return extra


def no_columns(
  ctx: context.Context, checkpoints: Roles, rows: dict[str, loader.Rows]
) -> Columns:
  """Nothing is computed once for a data set."""
  del ctx, checkpoints, rows
  return {}


def rows_of(section: ConfigDict) -> dict[str, int]:
  """{kind of data: its rows} of `config.batch` or `config.validation`.

  A kind of 0 rows is no part of a batch: it is there to be set.
  """
  return {kind: rows for kind, rows in section.items() if rows}


def require(config: ConfigDict, **sections: Iterable[str]) -> None:
  """UserError where a section of the config lacks a key that must be there."""
  for section, names in sections.items():
    for name in names:
      if name not in config[section]:
        raise errors.UserError(
          f"config.{section}.{name} is missing, which config.algorithm="
          f"{config.algorithm} needs"
        )


def require_one_decoder(config: ConfigDict) -> None:
  """UserError where the policy's decoder cannot be the scalar model's, too."""
  sections = config.model.to_dict(), config.reward_model.to_dict()
  for key in sizes.differences(*sections, but=sizes.FREE):
    raise errors.UserError(
      f"config.reward_model.{key}={config.reward_model[key]} differs from"
      f" config.model.{key}={config.model[key]}, but config.algorithm="
      f"{config.algorithm} starts its scalar model from the policy's decoder:"
      " give both the same"
    )


def require_no_dropout(config: ConfigDict) -> None:
  """UserError where adapters are to have dropout: RL and DPO have none."""
  if config.lora.rank and config.lora.dropout:
    raise errors.UserError(
      f"config.lora.dropout={config.lora.dropout}: there is no dropout with"
      f" config.algorithm={config.algorithm}, or the first ratio were not 1"
      " (README, detail 1); give 0"
    )


def any_config(config: ConfigDict) -> None:
  """Refuses nothing."""
  del config


def one_update(config: ConfigDict) -> int:
  """One."""
  del config
  return 1


def no_warning(config: ConfigDict, metrics: dict[str, float]) -> str:
  """Nothing to say."""
  del config, metrics
  return ""


def whole_batch(config: ConfigDict, rows: dict[str, int]) -> dict[str, int]:
  """A minibatch has the rows of the batch."""
  del config
  return rows


@dataclasses.dataclass(frozen=True)
class Algorithm:
  """The functions of an algorithm, and what it declares of itself."""

  # (ctx, key, checkpoints) -> (params, frozen, extra). `checkpoints` holds the
  # parameters of `config.needs`, by role. Compiled.
  init: Callable[
    [context.Context, jax.Array, Roles],
    tuple[Roles, Roles, dict[str, jax.Array]],
  ]
  # (ctx, params, frozen, minibatch, key) -> (terms, metrics), of one or more
  # parts. Compiled together with the update.
  loss: Callable[
    [context.Context, Roles, Roles, Rows, jax.Array | None],
    tuple[Terms, Metrics],
  ]
  # (ctx, checkpoints, {kind of data: all its rows}) -> columns, once for the
  # training rows and once for those of validation, before the first step of
  # every start: the same each time. Its arrays are then in every batch, as
  # batch[kind][name]; of `checkpoints` only what the state holds stays in
  # memory. Ordinary Python: `batching.of_rows` divides the rows over devices
  # and processes.
  columns: Callable[
    [context.Context, Roles, dict[str, loader.Rows]], Columns
  ] = no_columns
  # (ctx, state, batch, key) -> (minibatches, metrics). Ordinary Python that
  # calls compiled functions, as jax.jit(f, static_argnums=0) of f(ctx, ...).
  collect: Callable[
    [context.Context, State, Rows, jax.Array], tuple[Rows, Metrics]
  ] = one_minibatch
  # (ctx, state) -> state, after the last step. Ordinary Python.
  finish: Callable[[context.Context, State], State] = same_state
  # (ctx, extra, metrics of the step) -> extra, after each step. Compiled; what
  # it returns is dropped where it, or a metric, is not finite.
  adapt: Callable[
    [context.Context, dict[str, jax.Array], Metrics], dict[str, jax.Array]
  ] = same_extra
  # UserError where a config is impossible; reads no file.
  check: Callable[[ConfigDict], None] = any_config
  # (config, the means of a step by name) -> what is wrong with it and what to
  # do, '' where nothing is: logged the first time that there is something.
  warning: Callable[[ConfigDict, dict[str, float]], str] = no_warning
  # The updates of a step: the first axis of `minibatches`.
  updates: Callable[[ConfigDict], int] = one_update
  # (config, {kind of data: its rows in a batch}) -> {kind: its rows in one
  # minibatch}; UserError where they don't divide.
  minibatch_rows: Callable[[ConfigDict, dict[str, int]], dict[str, int]] = (
    whole_batch
  )
  # Kinds of data that it reads beside those of a batch.
  also_reads: tuple[str, ...] = ()
  # Sections of the config that it does not read: they may change.
  ignores: tuple[str, ...] = ()
  speaker: str = ""  # the role whose responses are shown on the way; '': none
  is_rewarded: bool = False  # whether `config.reward` scores what it samples


MODULES = {
  "sft": "instruct_jax.algorithms.sft",
  "rm": "instruct_jax.algorithms.rm",
  "ppo": "instruct_jax.algorithms.ppo",
  "dpo": "instruct_jax.algorithms.dpo",
  "groups": "instruct_jax.algorithms.groups",
  "best_of_n": "instruct_jax.algorithms.best_of_n",
}


def named(name: str) -> Algorithm:
  """The algorithm of `config.algorithm`: a name, or a module's import path.

  Raises UserError for an unknown name, a module that cannot be imported and
  one without an ALGORITHM.
  """
  is_word = name not in MODULES and "." not in name
  if is_word and importlib.util.find_spec(name) is None:
    raise errors.unknown("algorithm", name, MODULES)
  path = MODULES.get(name, name)
  module = outside.module(path, f"config.algorithm={name}")
  algorithm = getattr(module, "ALGORITHM", None)
  if not isinstance(algorithm, Algorithm):
    raise errors.UserError(
      f"config.algorithm={name}: {path} has no ALGORITHM ="
      " algorithms.Algorithm(init=..., loss=..., ...) at its end"
    )
  return algorithm
