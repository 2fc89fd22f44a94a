"""Whether a stage can run: said of its config, before anything is built."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from instruct_jax import algorithms, worlds
from instruct_jax.base import errors, keys, ranges
from instruct_jax.data.read import kinds
from instruct_jax.evals import suite
from instruct_jax.inference import context, rewards
from instruct_jax.labeling import candidates, rankers
from instruct_jax.runs import comparing, evaluating, jobs, steps, suites
from instruct_jax.training import loop
from instruct_jax.worlds import mixture


def check(config: ConfigDict) -> None:
  """Raises UserError for a config that cannot run, before anything is built."""
  ranges.check(keys.flatten(config))
  for what, name, known in (
    ("config.job", config.job, jobs.JOBS),
    ("config.evaluation.suite", config.evaluation.suite, suites.SUITES),
  ):
    if name not in known:
      raise errors.unknown(what, name, known)
  suites.evaluations(config)
  rewards.check(config)
  context.check(config)
  check_read(config.data, [kind for kind in kinds.KINDS if config.data[kind]])
  worlds.of(config.data).check(config.data, _kinds(config))
  if config.evaluation.suite == "policies":
    suite.check(config)
  if config.job == "train":
    loop.check(config)
  if config.job == "rankings":
    rankers.check_world(worlds.of(config.data))
  if config.job in ("rankings", "candidates"):
    candidates.check(config)
  if config.job == "label":
    rankers.check(config)
  if config.job == "mixture":
    mixture.check(config, worlds.of(config.data))
  if config.job == "evaluate":
    evaluating.check(config)
  if config.job == "compare":
    comparing.check(config)
  if config.job == "join":
    comparing.check_join(config)
  steps.check(config)


def check_read(data: ConfigDict, names: Iterable[str]) -> None:
  """UserError where the world of a section does not read a key that is set.

  Args:
    data: the section config.data.
    names: the keys in it that somebody has set.
  """
  for name in names:
    for unread, why in worlds.of(data).unread.items():
      if f"{name}.".startswith(f"{unread}."):
        raise errors.UserError(f"config.data.{name} is set, but {why}")


def check_evaluation(config: ConfigDict) -> None:
  """Raises UserError where what a command names could not be evaluated."""
  if config.evaluation.suite == "policies":
    worlds.of(config.data).check(config.data, ("prompts",))


def _kinds(config):
  """The kinds of data that a stage reads."""
  if config.job in ("candidates", *comparing.JOBS):
    return ("prompts",)
  if config.job != "train":
    return ()
  also = algorithms.named(config.algorithm).also_reads
  named = (*algorithms.rows_of(config.batch), *also)
  # A mixture takes the place of the data set's demonstrations.
  is_mixed = "demonstrations" in config.needs
  return tuple(x for x in named if not (is_mixed and x == "demonstrations"))
