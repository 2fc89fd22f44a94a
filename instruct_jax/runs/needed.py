"""What a stage needs: the key that names it, what it hands on, if it fits."""

from ml_collections import ConfigDict

from instruct_jax import algorithms
from instruct_jax.base import errors
from instruct_jax.evals import suite
from instruct_jax.inference import rewards
from instruct_jax.models import sizes
from instruct_jax.runs import comparing

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
