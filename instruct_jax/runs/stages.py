"""What a stage of the chain does: build data, train, rank, select, evaluate."""

import contextlib
import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import algorithms, paper, worlds
from instruct_jax.base import errors, keys, ranges, run_folder, storage
from instruct_jax.data.read import kinds
from instruct_jax.evals import folds as folds_lib
from instruct_jax.evals import reward, select, suite
from instruct_jax.hf import folder as hf_folder
from instruct_jax.inference import context, encode, rewards, score
from instruct_jax.labeling import candidates, folds, rankers, rankings
from instruct_jax.models import sizes
from instruct_jax.parallel import hosts
from instruct_jax.runs import (
  bases,
  comparing,
  evaluating,
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
  unread = needs_of_evaluation(config)
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
        *(key_of(need), needs[need], needs["data"]),
      )
  checkpoints = {
    need: reading.load_parameters(needs[need], ctx, role_of(config, need))
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
      named = f"{key_of('labeler')}={needs['labeler']}"
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


def evaluate(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> suite.Outcome:
  """What is measured of a finished run, by `config.evaluation.suite`."""
  name = config.evaluation.suite
  return EVALUATIONS[name](config, folder, needs)


def _evaluate_policies(config, folder, needs):
  ctx = context.make(config, needs)
  return comparing.measure_policies(ctx, folder, needs)


def _evaluate_reward(config, folder, needs):
  ctx = context.make(config, needs)
  params = reading.load_parameters(folder, ctx, "reward")
  findings = reward.measure_accuracy(ctx, params)
  return suite.Outcome(*findings, {"reward": suite.MEASURED})


def _evaluate_nothing(config, folder, needs):
  del config, folder, needs
  return suite.Outcome({}, {})


# {need: (jobs, role)} of those that are no policy.
_EXPECTED = {
  "data": (("dataset",), ""),
  "rankings": (("rankings", "label", "leave_out"), ""),
  "comparisons": (("leave_out",), ""),
  "candidates": (("candidates",), ""),
  "demonstrations": (("mixture",), ""),
  "labeler": ((), "reward"),
}
_NO_EPOCHS = "keeps no epochs to {} (keep_epochs); name an SFT experiment"
# {job: (the key that its policy must have, what is wrong without)}
_KEPT = {
  "select": ("keep_epochs", _NO_EPOCHS.format("select from")),
  "epochs": ("keep_epochs", _NO_EPOCHS.format("measure")),
  "overoptimization": (
    "keep_every",
    "keeps no steps to measure (keep_every); name a run that does",
  ),
}
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
EVALUATIONS = {
  "policies": _evaluate_policies,
  "reward": _evaluate_reward,
  "none": _evaluate_nothing,
}


def check(config: ConfigDict) -> None:
  """Raises UserError for a config that cannot run, before anything is built."""
  ranges.check(keys.flatten(config))
  for what, name, known in (
    ("config.job", config.job, JOBS),
    ("config.evaluation.suite", config.evaluation.suite, EVALUATIONS),
  ):
    if name not in known:
      raise errors.unknown(what, name, known)
  evaluations(config)
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


def key_of(need: str) -> str:
  """The key that names what is needed."""
  if rewards.is_one(need):
    return "config.needs.reward"
  return (
    "config.rankings.model" if need == "labeler" else f"config.needs.{need}"
  )


def check_need(config: ConfigDict, name: str, need: ConfigDict) -> None:
  """UserError where a stage to be built is not what it is needed as.

  `need` is its config, `name` that of the need.
  """
  if name == "labeler":
    named = config.rankings.model
  elif rewards.is_one(name):
    named = rewards.named(config.needs.reward)[name]
  else:
    named = config.needs[name]
  key = f"{key_of(name)}={named}"
  jobs, _ = _EXPECTED.get(name, ((), ""))
  role = role_of(config, name)
  if config.job == "join":
    _check_part(config, name, need, key)
    return
  if jobs and need.job not in jobs:
    raise errors.UserError(
      f"{key}: an experiment with config.job={' or '.join(jobs)} is needed, not"
      f" {need.job}"
    )
  if not jobs and _product(need) != role:
    raise errors.UserError(
      f"{key}: hands on {_product(need) or 'no parameters'}, where a {role} is"
      " needed"
    )
  kept, what = _KEPT.get(config.job, ("", ""))
  if name == "policy" and kept and not need.get(kept, 0):
    raise errors.UserError(f"{key}: {what}")
  _check_steps(config, name, need, key)
  of_any_shape = name == "labeler" or (
    config.job == "compare" and role == "policy"
  )
  if role and not of_any_shape:
    section = "reward_model" if role == "reward" else "model"
    check_shape(config[section], need[section], section, key)


def _check_steps(config, name, need, key):
  """UserError where a subject is a step that its run does not keep."""
  for subject, section in config.evaluation.subjects.items():
    if section.run != name or not section.get("step", 0):
      continue
    every, last = need.get("keep_every", 0), need.get("steps", 0)
    if not every or section.step % every or section.step > last:
      kept = (
        f"every {every} of {last} steps" if every else "no step but its last"
      )
      raise errors.UserError(
        f"config.evaluation.subjects.{subject}.step={section.step}: {key} keeps"
        f" {kept} (keep_every)"
      )


def _check_part(config, name, need, key):
  """UserError where a join's need has no tables, or other test prompts."""
  if name == "data":
    return
  if need.job == "dataset" or _product(need):
    raise errors.UserError(f"{key}: is no comparison; nothing can be joined")
  if name in config.join.against:
    comparing.check_same(config.evaluation, need.evaluation, key)


def check_shape(
  wanted: ConfigDict, there: ConfigDict, section: str, key: str
) -> None:
  """UserError where two sections are not of one model."""
  but = (*sizes.FREE, "scan")
  for name in sizes.differences(wanted.to_dict(), there.to_dict(), but=but):
    raise errors.UserError(
      f"{key}: its config.{section}.{name} is {there[name]}, here it is"
      f" {wanted[name]}: give both the same"
    )


def role_of(config: ConfigDict, need: str) -> str:
  """The role that a need hands on: 'reward', 'policy' or '' for neither."""
  if rewards.is_one(need):
    return "reward"
  if need in _EXPECTED:
    return _EXPECTED[need][1]
  models = config.evaluation.get("reward_models", {})
  return "reward" if need in models.values() else "policy"


def _product(config):
  """The role that a stage hands on; '' for none."""
  if config.job == "select":
    return "policy"
  return config.product if config.job == "train" else ""


def evaluations(config: ConfigDict) -> tuple[str, ...]:
  """The names that `results["evaluations"]` has once a run is evaluated.

  A finished run that lacks one has not been evaluated by all of them. Raises
  UserError for evaluations of people's own that are not there.
  """
  section = config.evaluation
  if config.job in comparing.JOBS:  # They evaluate, and nothing else.
    return ()
  if section.suite == "policies":
    return tuple(suite.evaluations_of(section.extra))
  if section.extra:
    raise errors.UserError(
      f"config.evaluation.extra={section.extra}: evaluations of your own need"
      f" config.evaluation.suite=policies, not {section.suite}"
    )
  return ("reward",) if section.suite == "reward" else ()


def needs_of_evaluation(config: ConfigDict) -> set[str]:
  """The needs that a stage's evaluation alone reads: policies to compare."""
  if config.job != "train":
    return set()
  compared = {section.run for section in config.evaluation.subjects.values()}
  models = config.evaluation.reward_models
  compared |= set(models.values())
  compared -= _OF_TRAINING
  if "reward_model" in algorithms.named(config.algorithm).ignores:
    compared |= {"reward"}
  if models and "rankings" not in algorithms.rows_of(config.batch):
    compared |= {"rankings"}
  if "reward" in compared:
    compared |= set(rewards.named(config.needs.get("reward", "")))
  return compared


_OF_TRAINING = {
  "", "data", "policy", "reward", "rankings", "demonstrations"
}  # fmt: skip


def needs_left_out(config: ConfigDict) -> set[str]:
  """The needs that none but subjects that are left out would read."""
  if config.job not in ("train", "compare"):
    return set()
  left_out = suite.left_out(config)
  subjects = config.evaluation.subjects.items()
  gone, there = (
    {section.run for name, section in subjects if (name in left_out) == is_out}
    for is_out in (True, False)
  )
  return gone - there - _OF_TRAINING


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
