"""Five reward models, each of which never saw a fifth of the labelers.

Paper: section 4.1: labelers are split into five groups, a reward model learns
from the rankings of four and is asked what the fifth would say; 69.6 +- 0.9 %
right where labelers were trained on have 72.4 +- 0.4. For each group:

  rankings-tiny-fold1  the training rankings without the first group's
  rm-tiny-fold1        `rm.py`'s reward model of these

One data set, one SFT model, one set of rankings for all of them. The labelers
are those of the training rankings ("labeler" of each record), the prompts that
are asked about those of `config.folds.splits`. Of `:tiny` the world's held-out
labelers, whom none of the five has seen, stand beside the groups.

Hardware: `:tiny` 2 CPU cores, about three minutes after `rm.py:tiny`. Expected
for `:tiny`: labelers left out are predicted as well as those trained on, 66 %.

  python -m instruct_jax.main --config=experiments/rm_folds.py
  python -m instruct_jax.main --config=experiments/rm_folds.py:files ...
"""

import re

from ml_collections import ConfigDict

from experiments import common, rm
from instruct_jax import paper
from instruct_jax.base import errors

STAGES = ("rankings", "rm")
DEFAULTS = {
  "needs.data": "dataset.py",
  "folds": {"held_out": 0, "splits": ("validation", "test")},
}
VARIANTS = {
  # Settings of the reward model were chosen on validation prompts.
  "tiny": {"needs.rankings": "rankings.py", "folds.splits": ("test",)},
  "test": {"needs.rankings": "rankings.py", "evaluation.batch": 16},
  "files": {"evaluation.batch": 16},
} | {name: {} for name in paper.RM_SIZES}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, and 6b, also called 1.3b and 175b."""
  stage, variant, number = _parsed(variant)
  if stage:
    made = _STAGES[stage](variant, number)
    with made.unlocked():
      made.variant = f"{variant}-fold{number}"
    return made.lock()
  config = common.base("rm_folds", variant, "folds", DEFAULTS, VARIANTS)
  with config.unlocked():
    # It comes first in the alphabet, so it is built first: rankings of too few
    # labelers are refused before anything is trained.
    config.needs.comparisons = _of_fold("rankings", variant, 1)
    for n in range(1, paper.RM_FOLDS + 1):
      config.needs[f"fold{n}"] = _of_fold("rm", variant, n)
      config.evaluation.reward_models[f"fold{n}"] = f"fold{n}"
  return config


def _parsed(text: str) -> tuple[str, str, int]:
  """'rm-tiny-fold2' -> ('rm', 'tiny', 2); no stage is all folds together."""
  found = re.fullmatch(rf"({'|'.join(STAGES)})-(.+)-fold(\d{{1,3}})", text)
  stage, variant, number = found.groups() if found else ("", text, "0")
  variant = paper.RM_SIZES.get(variant, variant)
  if variant not in VARIANTS:
    raise errors.unknown("variant of rm_folds.py", variant, VARIANTS)
  if stage and not 1 <= int(number) <= paper.RM_FOLDS:
    raise errors.UserError(
      f"rm_folds.py:{text}: there are the folds 1 to {paper.RM_FOLDS}"
    )
  return stage, variant, int(number)


def _of_fold(stage: str, variant: str, number: int) -> str:
  return f"rm_folds.py:{stage}-{variant}-fold{number}"


def _rankings(variant: str, number: int) -> ConfigDict:
  config = common.base("rankings", variant, "leave_out", DEFAULTS, VARIANTS)
  with config.unlocked():
    config.folds.held_out = number
  return config


def _rm(variant: str, number: int) -> ConfigDict:
  config = rm.get_config(variant)
  with config.unlocked():
    config.needs.rankings = _of_fold("rankings", variant, number)
    # All five are asked together, where the held-out rankings are whole.
    config.evaluation.suite, config.evaluation.always = "none", False
  return config


_STAGES = {"rankings": _rankings, "rm": _rm}
