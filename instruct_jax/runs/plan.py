"""What a command has to build: the stages, their needs and their digests.

A stage is one experiment with its resolved config and its own folder under the
root of the runs. Nothing is built or written here.
"""

import dataclasses
import logging
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import worlds
from instruct_jax.base import claims, errors, keys, ranges, run_folder, storage
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import imported
from instruct_jax.inference import rewards
from instruct_jax.labeling import rankers
from instruct_jax.runs import config_checks, digests, needed, references

_log = logging.getLogger(__name__)

# Overrides of these pass down to what an experiment needs; nothing else does.
INHERITED = (
  *("seed", "data", "model", "reward_model", "mesh", "pretrained"),
  *("candidates", "rankings"),  # of the rounds of experiments/iterated.py
  "folds",  # of experiments/rm_folds.py
  "mixtures",  # of experiments/instruction_tuning.py
)


@dataclasses.dataclass(frozen=True)
class Stage:
  """An experiment, where it lies, and what it needs."""

  config: ConfigDict
  folder: epath.Path
  needs: dict[str, "Stage | references.Given"]
  digest: str

  @property
  def name(self) -> str:
    """The folder's name, such as sft-tiny or sft-tiny-seed1."""
    return self.folder.name

  @property
  def folders(self) -> dict[str, epath.Path]:
    """Where what it needs lies, by name."""
    return {name: need.folder for name, need in self.needs.items()}

  def written(self) -> str:
    """How the config.json of a run beside it names it."""
    return f"../{self.name}"


def overrides_of(config: ConfigDict, default: ConfigDict) -> dict[str, Any]:
  """The keys of `config` that differ from `default` and pass down to needs."""
  before, changed = keys.flatten(default), {}
  for key, value in keys.flatten(config).items():
    if key.split(".")[0] in INHERITED and before.get(key) != value:
      changed[key] = value
  return changed


def plan(
  config: ConfigDict,
  source: epath.Path,
  workdir: epath.Path,
  inherited: dict[str, Any],
) -> Stage:
  """The stage of `config`, read from `source`, with all that it needs.

  What only its evaluation reads is needed if the stage is evaluated: the one
  that a command names, and those with `evaluation.always`.

  Raises UserError where a config is impossible, and where a stage that must be
  built has the folder of a run that the user named.
  """
  ranges.check(keys.flatten(config))
  given_data = [k for k in inherited if k.startswith("data.")]
  config_checks.check_read(
    config.data, [k.partition(".")[2] for k in given_data]
  )
  inherited = inherited | _adopted(config, source, inherited)
  config.update_from_flattened_dict(fitting(inherited, config))
  stage = _plan(config, source, workdir, inherited, {}, evaluated=True)
  named = given(stage)
  for each in in_order(stage):
    check_kept(each, named)
  return stage


def _plan(
  config,
  source,
  workdir,
  inherited,
  known,
  *,
  evaluated=False,
  above=(),
  reference="",
):
  """`reference` names it, as what needs it does; '' of what is commanded."""
  try:
    config_checks.check(config)
  except errors.UserError as error:
    if evaluated:  # what the command names
      raise
    raise errors.UserError(f"{reference}, which this needs: {error}") from None
  if evaluated:
    config_checks.check_evaluation(config)
  seed = config.seed if "seed" in config else 0  # A dataset has none.
  name = f"{config.experiment}-{config.variant}"
  folder = workdir / (f"{name}-seed{seed}" if seed else name)
  if str(folder) in known:
    return known[str(folder)]
  if str(folder) in above:
    raise errors.UserError(f"config.needs: {folder.name} needs itself")
  evaluated = evaluated or config.evaluation.always
  needs: dict[str, Stage | references.Given] = {}
  for need, named in _references(config, evaluated=evaluated).items():
    if not named:
      this = reference or f"{config.experiment}.py:{config.variant}"
      raise errors.UserError(
        f"{needed.key_of(need)} of {this} is empty: name an experiment file"
        " beside it, or the folder of a finished run"
      )
    if not references.is_experiment(named):
      needs[need] = references.resolve(need, named)
      _log.info("%s: %s, as given", needed.key_of(need), named)
      continue
    below, path = references.load_config(named, source.parent)
    below.update_from_flattened_dict(fitting(inherited, below))
    needed.check_need(config, need, below)
    needs[need] = _plan(
      below,
      path,
      workdir,
      inherited,
      known,
      above=(*above, str(folder)),
      reference=named,
    )
  stage = Stage(config, folder, needs, digests.of_stage(config, needs))
  known[str(folder)] = stage
  return stage


def _references(config: ConfigDict, *, evaluated: bool) -> dict[str, str]:
  """What a config needs, `config.pretrained` in the place of pretraining.

  Several reward models are a need each. Training whose reward has no model in
  it needs none, and what only the evaluation reads is not needed without one.
  Where a reward model ranks, it is needed.
  """
  needs = dict(config.needs.items())
  if config.job == "label" and config.rankings.labeler == rankers.REWARD:
    needs["labeler"] = config.rankings.model
  if config.job == "train" and not rewards.needs_model(config.reward):
    needs.pop("reward", None)
  if not evaluated or config.evaluation.suite != "policies":
    for need in needed.needs_of_evaluation(config):
      needs.pop(need, None)
  for need in needed.needs_left_out(config):
    reference = needs.pop(need, "")
    if reference and not references.is_experiment(reference):
      references.resolve(need, reference)  # refused if it is nothing
  for need, reference in needs.items():
    if not reference or reference.startswith("pretrain.py"):
      needs[need] = config.pretrained or reference
  if "reward" in needs:
    needs |= rewards.named(needs["reward"])
  return needs


def in_order(stage: Stage) -> list[Stage]:
  """The stage and its needs that are built, each once, needs first."""
  ordered: dict[epath.Path, Stage] = {}

  def visit(each):
    if each.folder in ordered:  # with its needs: rounds share most of theirs
      return
    for need in each.needs.values():
      if isinstance(need, Stage):
        visit(need)
    ordered[each.folder] = each

  visit(stage)
  return list(ordered.values())


def given(stage: Stage) -> list[references.Given]:
  """The finished runs and checkpoints that the user named, for all stages."""
  return [
    need
    for each in in_order(stage)
    for need in each.needs.values()
    if isinstance(need, references.Given)
  ]


def written_digest(stage: Stage) -> str:
  """The digest of the run in a stage's folder, '' where there is none.

  Raises UserError where something else is there.
  """
  claims.check_place(stage.folder)
  config = run_folder.files(stage.folder).config
  if config.exists():
    digest = storage.read_json(config).get("digest")
    if isinstance(digest, str):
      return digest
  elif not stage.folder.exists():
    return ""
  elif all(map(storage.is_half_written, stage.folder.iterdir())):
    return ""  # Nothing yet, or all that a command wrote before it was killed.
  raise errors.UserError(
    f"{stage.folder}: holds files, but no run of an experiment; it is left"
    " alone. Move it, or name another --workdir."
  )


def check_kept(stage: Stage, named: list[references.Given]) -> None:
  """UserError where building would move a run that the user named.

  And where there is something in its folder that is no run.
  """
  written = written_digest(stage)
  kept = [n for n in named if str(stage.folder.resolve()) in n.keeps()]
  if kept and written not in ("", stage.digest):
    raise errors.UserError(
      f"{stage.name} has to be built, with other settings than those of the"
      f" run in its folder {stage.folder}, which"
      f" {kept[0].key}={kept[0].folder} uses and which is therefore not moved."
      " Name another --workdir, or that run wherever"
      f" {stage.name} is needed (--config.needs.NAME=...)."
    )


def fitting(overrides: dict[str, Any], config: ConfigDict) -> dict[str, Any]:
  """Those of the overrides that the config has a key for."""
  known = keys.flatten(config)
  return {key: value for key, value in overrides.items() if key in known}


def _adopted(
  config: ConfigDict, source: epath.Path, inherited: dict[str, Any]
) -> dict[str, Any]:
  """The keys that checkpoints of the chain decide for all of its stages.

  A policy 'hf:/path' brings its decoder and its tokenizer, a reward model its
  decoder. What the command line says of a model stays.
  """
  by_role = _checkpoints(config, source, inherited)
  if not by_role:
    return {}
  world = worlds.of(config.data)
  if world.own_words:
    raise errors.UserError(
      f"{next(iter(by_role.values()))}: a pretrained model does not know the"
      f" {world.name}'s words; take the :files variant and your own data"
    )
  adopted = {}
  for section in ("model", "reward_model"):
    role = "reward" if section == "reward_model" else "policy"
    reference = by_role.get(role) or by_role.get("policy")
    if reference:
      there = hf_folder.Folder(hf_folder.path_of(reference))
      values = imported.model_section(there)
      adopted |= {f"{section}.{name}": x for name, x in values.items()}
  adopted["data.tokenizer"] = next(iter(by_role.values()))
  return {k: v for k, v in adopted.items() if k not in inherited}


def _checkpoints(
  config: ConfigDict,
  source: epath.Path,
  inherited: dict[str, Any],
  seen: set[str] | None = None,
) -> dict[str, str]:
  """'hf:/path' by role, 'policy' first, of all that a chain needs."""
  seen, by_role = set() if seen is None else seen, {}
  for need, reference in _references(config, evaluated=True).items():
    if need == "labeler":  # which may be of any shape
      continue
    if hf_folder.is_reference(reference):
      by_role.setdefault(needed.role_of(config, need), reference)
    elif references.is_experiment(reference) and reference not in seen:
      seen.add(reference)
      below, path = references.load_config(reference, source.parent)
      below.update_from_flattened_dict(fitting(inherited, below))
      for role, deeper in _checkpoints(below, path, inherited, seen).items():
        by_role.setdefault(role, deeper)
  return dict(sorted(by_role.items()))
