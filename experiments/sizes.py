"""Three sizes of the model, and all that the paper compared, side by side.

Paper: figure 1 and most that follow: 1.3B, 6B and 175B through GPT, prompted
GPT, SFT, PPO and PPO-ptx, held against the largest SFT; section 3.5: one 6B
reward model serves all of them, and an SFT epoch is selected by it for each
size. Of `:tiny` small, medium and large have 0.1, 0.4 and 1.9 M parameters;
medium is the default `:tiny`, whose stages are shared. DEPARTS: FLAN- and
T0-style models are of the medium size alone, for want of time. Of small and
large:

  pretrain-tiny-large  GPT
  sft-tiny-large       SFT on the same demonstrations, every epoch kept
  select-tiny-large    the epoch that the reward model likes best
  ppo-tiny-large       PPO from it; its value network is as large as the reward
                       model
  ppo_ptx-tiny-large   PPO-ptx from it

  compare-tiny-large   the suite on a size's policies beside the largest SFT
  compare-tiny-one     the same of the medium size, beside its own SFT
  sizes-tiny           all of them joined: every table, and every policy held
                       against every other

Learning rates of SFT and RL go with 1 / width: 1.5 times medium's for small,
half of it for large. Names are SIZE_METHOD (large_gpt, small_ppo_ptx), of one
size gpt, ppo_ptx, ....

Hardware: `:tiny` 2 CPU cores; the large model's stages cost the most. Expected
for `:tiny`: figure 1's order of methods at each size.

  python -m instruct_jax.main --config=experiments/sizes.py
  python -m instruct_jax.main --config=experiments/sizes.py:compare-tiny-one
"""

import re

from ml_collections import ConfigDict

from experiments import common, ppo, ppo_ptx, pretrain, select, sft
from instruct_jax.base import errors
from instruct_jax.models import sizes

SIZES = tuple(sizes.STAND_INS)
MEDIUM, LARGEST, ONE = "medium", SIZES[-1], "one"
TRAINED = {
  "pretrain": pretrain,
  "sft": sft,
  "select": select,
  "ppo": ppo,
  "ppo_ptx": ppo_ptx,
}
METHODS = {  # of a size: the stage that makes it
  "gpt": "pretrain",
  "sft": "select",
  "ppo": "ppo",
  "ppo_ptx": "ppo_ptx",
}
DEFAULTS = {
  "join": {"against": SIZES},
  "evaluation.baseline": f"{LARGEST}_sft",
}
VARIANTS = {"tiny": {}, "test": {}}
# Whose policy Adam trains. Its rate goes with 1 / width, as it does where the
# update of what a layer says is to be as large at every size (Yang et al. 2022,
# arXiv:2203.03466, table 3); Muon's needs no such change, and the value network
# is as large for all.
BY_WIDTH = ("sft", "ppo", "ppo_ptx")
COMPARED = {
  "tiny": {"evaluation.prompts": 1024},
  "test": common.TEST_EVALUATION,
}


def get_config(variant="tiny"):
  """Variants: tiny, test."""
  stage, variant, size = _parsed(variant)
  if stage in TRAINED:
    config = _training(stage, variant, size)
  elif stage:
    config = _comparison(variant, size)
  else:
    return _join(variant)
  with config.unlocked():
    config.variant = f"{variant}-{size}"
  return config.lock()


def _parsed(text: str) -> tuple[str, str, str]:
  """'ppo-tiny-large' -> ('ppo', 'tiny', 'large'); no stage is all of them."""
  stages, ends = "|".join([*TRAINED, "compare"]), "|".join([*SIZES, ONE])
  found = re.fullmatch(rf"({stages})-(.+)-({ends})", text)
  stage, variant, size = found.groups() if found else ("", text, "")
  shared = stage in TRAINED and size not in (SIZES[0], LARGEST)
  if variant not in VARIANTS or shared:
    known = [
      *VARIANTS,
      *(f"{s}-tiny-{size}" for s in TRAINED for size in (SIZES[0], LARGEST)),
      *(f"compare-tiny-{size}" for size in (*SIZES, ONE)),
    ]
    raise errors.unknown("variant of sizes.py", text, known)
  return stage, variant, size


def of_size(stage: str, variant: str, size: str) -> str:
  """The reference of a stage of a size: medium's are the default command's."""
  if size in (MEDIUM, ONE):
    return f"{stage}.py:{variant}"
  return f"sizes.py:{stage}-{variant}-{size}"


def _training(stage: str, variant: str, size: str) -> ConfigDict:
  """A stage of the default command, of another size and of its own needs."""
  config = TRAINED[stage].get_config(variant)
  with config.unlocked():
    config.model = sizes.section(sizes.of_size(variant, size))
    for name in ("dropout", "dtype", "remat"):
      config.model[name] = TRAINED[stage].get_config(variant).model[name]
    for need, reference in config.needs.items():
      made_by = reference.partition(".py:")[0]
      if made_by in TRAINED:
        config.needs[need] = of_size(made_by, variant, size)
    if stage in BY_WIDTH:
      medium = TRAINED[stage].get_config(variant).model.width
      policy = config.optimizer.policy
      policy.learning_rate *= medium / config.model.width
  return config


def _comparison(variant: str, size: str) -> ConfigDict:
  """The policies of a size; of each but the largest beside its SFT."""
  prefix = "" if size == ONE else f"{size}_"
  subjects = {f"{prefix}{method}": common.subject(method) for method in METHODS}
  subjects[f"{prefix}prompted_gpt"] = common.subject("gpt", prompted=True)
  needs = {
    method: of_size(stage, variant, size) for method, stage in METHODS.items()
  }
  baseline = "sft" if size == ONE else f"{LARGEST}_sft"
  if baseline not in subjects:
    subjects[baseline] = common.subject("baseline")
    needs["baseline"] = of_size(METHODS["sft"], variant, LARGEST)
  if size in (MEDIUM, ONE):
    subjects |= {prefix + name: common.subject(name) for name in common.TUNED}
    needs |= common.TUNED_NEEDS
  changes = COMPARED[variant] | {
    "needs": {
      "data": "dataset.py",
      "reward": f"rm.py:{variant}",
      **{n: r.replace("{variant}", variant) for n, r in needs.items()},
    },
    "evaluation.baseline": baseline,
    "evaluation.reference": f"{prefix}sft",
    "evaluation.subjects": subjects,
  }
  return common.base("compare", variant, "compare", changes, VARIANTS)


def _join(variant: str) -> ConfigDict:
  parts = {size: f"sizes.py:compare-{variant}-{size}" for size in SIZES}
  changes = COMPARED[variant] | DEFAULTS
  changes |= {"needs": {"data": "dataset.py"} | parts}
  return common.base("sizes", variant, "join", changes, VARIANTS)
