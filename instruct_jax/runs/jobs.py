"""What a stage of the chain does: build data, train, rank, select, compare."""

import contextlib
import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import paper, worlds
from instruct_jax.base import errors, run_folder, storage
from instruct_jax.evals import folds as folds_lib
from instruct_jax.evals import select, suite
from instruct_jax.hf import folder as hf_folder
from instruct_jax.inference import context, encode, rewards, score
from instruct_jax.labeling import folds, rankings
from instruct_jax.parallel import hosts
from instruct_jax.runs import (
  bases,
  comparing,
  evaluating,
  needed,
  reading,
  records,
  steps,
)
from instruct_jax.training import loop
from instruct_jax.worlds import mixture

_log = logging.getLogger(__name__)

Folders = dict[str, epath.Path]


@dataclasses.dataclass(frozen=True)
class Result:
  """What results.json keeps of a job."""

  metrics: dict[str, float]
  tables: dict[str, Any] = dataclasses.field(default_factory=dict)
  product: dict[str, Any] = dataclasses.field(default_factory=dict)
  parameters_digest: str = ""
  steps: int = 0
  seconds: float = 0.0  # of all starts together, where the job keeps count


def build_data(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> Result:
  """The data set of the config's world, and its tokenizer."""
  del needs
  build = worlds.of(config.data).build
  spent = run_folder.files(folder).spent

  def built():
    with _added_to(spent):
      figures = dict(build(config, folder))
    return figures, _seconds(spent)

  figures, seconds = hosts.once("data", built)
  tables = figures.pop("tables", {})
  hosts.once("spent", lambda: spent.unlink(missing_ok=True))
  return Result(metrics=figures, tables=tables, seconds=seconds)


@contextlib.contextmanager
def _added_to(spent: epath.Path) -> Iterator[None]:
  """Adds the seconds of a block to those of starts before, also if it ends."""
  start, before = time.monotonic(), _seconds(spent)
  try:
    yield
  finally:
    seconds = before + time.monotonic() - start
    with contextlib.suppress(OSError):  # the disk that ended it, perhaps
      storage.write_json(spent, {"seconds": seconds})


def _seconds(spent: epath.Path) -> float:
  try:
    return float(storage.read_json(spent).get("seconds", 0.0))
  except (errors.UserError, OSError, TypeError, ValueError):
    return 0.0


def mend_data(config: ConfigDict, folder: epath.Path) -> None:
  """Makes what is damaged of a finished data set again."""
  mend = worlds.of(config.data).mend
  hosts.once("mend", lambda: mend(config, folder))


def run_training(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> Result:
  """Trains; the product is the policy's EMA where one is kept."""
  ctx = context.make(config, needs)
  unread = needed.needs_of_evaluation(config)
  read = [
    need
    for need in needs
    if need not in unread and (need == "policy" or rewards.is_one(need))
  ]
  for need in read:
    if hosts.is_writer() and reading.speaks_other_words(needs[need], ctx):
      _log.warning(
        "%s: %s was trained with another tokenizer than %s has; its ids mean"
        " other words here",
        *(needed.key_of(need), needs[need], needs["data"]),
      )
  checkpoints = {
    need: reading.load_parameters(
      needs[need], ctx, needed.role_of(config, need)
    )
    for need in read
  }
  outcome = loop.train(
    ctx, folder, checkpoints, digest_of=lambda role: bases.digest(needs[role])
  )
  state, role = outcome.state, config.product
  kept = "ema" if role in state.ema else "params"
  product = {
    "run": ".",
    "step": outcome.steps,
    "item": f"{kept}.{role}",
    "epochs": outcome.kept if config.keep_epochs else [],
  }
  if config.keep_every:
    product["kept"] = outcome.kept
  return Result(
    metrics=outcome.metrics,
    product=product,
    parameters_digest=outcome.digest,
    steps=outcome.steps,
    seconds=outcome.seconds,
  )


def rank(config: ConfigDict, folder: epath.Path, needs: Folders) -> Result:
  """Samples candidates from the policies needed and lets labelers rank them."""
  ctx = context.make(config, needs)
  policies = _policies(ctx, config.rankings.sources, needs)
  return Result(*rankings.rank_prompts(ctx, policies, folder))


def write_candidates(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> Result:
  """Samples candidates from the policies needed, for others to rank."""
  ctx = context.make(config, needs)
  policies = _policies(ctx, config.candidates.sources, needs)
  return Result(*rankings.write_candidates(ctx, policies, folder))


def _policies(ctx, sources, needs):
  """The parameters of the policies that the sources name, each once."""
  return {
    name: reading.load_parameters(needs[name], ctx, "policy")
    for name in {source.policy: None for source in sources.values()}
  }


def label(config: ConfigDict, folder: epath.Path, needs: Folders) -> Result:
  """Has candidates ranked by whoever `config.rankings.labeler` names."""
  ctx = context.make(config, needs)
  if "labeler" not in needs:
    return Result(*rankings.label(ctx, folder))
  # Another model than the chain's, maybe, with another tokenizer.
  other = reading.open_context(needs["labeler"])
  params = reading.load_parameters(needs["labeler"], other, "reward")
  template, rows = other.config.data.template, config.evaluation.batch
  if hf_folder.is_reference(needs["labeler"]) and template == "plain":
    # A checkpoint without a chat template says nothing of what stood around
    # its prompts.
    template = config.data.template

  def scores_of(prompts, responses, ended):
    try:
      texts = encode.sequences(
        other, prompts, responses, ended, template=template
      )
    except errors.UserError as error:
      named = f"{needed.key_of('labeler')}={needs['labeler']}"
      raise errors.UserError(f"{named}: as it reads, {error}") from None
    return score.model_scores(other, params, texts, rows=rows)

  name = f"reward model {needs['labeler'].name}"
  return Result(*rankings.label(ctx, folder, score=scores_of, name=name))


def leave_out(config: ConfigDict, folder: epath.Path, needs: Folders) -> Result:
  """Writes the rankings without those of a group of labelers."""
  return Result(*folds.leave_out(config, folder, needs))


def cross_validate(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> Result:
  """Asks the reward model of each fold about the labelers it never saw."""
  del folder
  ctx = context.make(config, needs)
  models = {
    number: functools.partial(
      reading.load_parameters, needs[f"fold{number}"], ctx, "reward"
    )
    for number in range(1, paper.RM_FOLDS + 1)
  }
  groups = folds.read(needs["comparisons"])
  return Result(
    *folds_lib.measure_folds(ctx, groups, models, splits=config.folds.splits)
  )


def mix(config: ConfigDict, folder: epath.Path, needs: Folders) -> Result:
  """Mixes tasks, the world's or those of files, into rows to train on."""
  world = worlds.of(config.data)

  def built():
    return mixture.build(config, world, folder, needs)

  return Result(*hosts.once("mixture", built))


def pick_epoch(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> Result:
  """Picks the SFT epoch with the best reward on validation prompts (C.1)."""
  del folder
  ctx = context.make(config, needs)
  product = records.read_results(needs["policy"])["product"]
  if not product.get("epochs"):
    raise errors.UserError(
      f"{needs['policy']}: kept no epochs to select from; config.needs.policy"
      " should be an SFT run."
    )

  def loader(step):
    return lambda: reading.load_parameters(
      needs["policy"], ctx, "policy", step=step
    )

  candidates = [(step, loader(step)) for step in product["epochs"]]
  scorer = reading.load_rewards(needs, ctx)
  metrics, best = select.select_epoch(ctx, candidates, scorer)
  relative = os.path.relpath(needs["policy"], needs["policy"].parent / "here")
  chosen = {"run": relative, "step": best, "item": product["item"]}
  return Result(metrics=metrics, product=chosen)


def measure_epochs(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> Result:
  """Measures every epoch of SFT that was kept."""
  del folder
  return Result(*steps.measure_epochs(config, needs))


def measure_overoptimization(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> Result:
  """Measures the steps that a run kept, and best-of-n of its start."""
  del folder
  return Result(*steps.measure_overoptimization(config, needs))


def measure_sets(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> Result:
  """Measures the policies needed on sets of data."""
  return Result(*evaluating.measure(config, folder, needs))


def compare(config: ConfigDict, folder: epath.Path, needs: Folders) -> Result:
  """Evaluates the policies needed, of any sizes, by the whole suite."""
  ctx = context.make(config, needs)
  outcome = comparing.measure_policies(ctx, folder, needs)
  lacking = [
    {"evaluation": name, "why": why}
    for name, why in outcome.evaluations.items()
    if why != suite.MEASURED
  ]
  more = {"not_measured": lacking} if lacking else {}
  return Result(outcome.metrics, outcome.tables | more)


def join(config: ConfigDict, folder: epath.Path, needs: Folders) -> Result:
  """Makes one table of the comparisons needed."""
  ctx = context.make(config, needs)
  return Result(*comparing.join(ctx, folder, needs))


JOBS: dict[str, Callable[[ConfigDict, epath.Path, Folders], Result]] = {
  "dataset": build_data,
  "train": run_training,
  "rankings": rank,
  "candidates": write_candidates,
  "label": label,
  "mixture": mix,
  "select": pick_epoch,
  "leave_out": leave_out,
  "folds": cross_validate,
  "epochs": measure_epochs,
  "evaluate": measure_sets,
  "overoptimization": measure_overoptimization,
  "compare": compare,
  "join": join,
}
