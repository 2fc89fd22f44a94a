"""FLAN- and T0-style baselines: SFT on public tasks put as prompts.

Paper: section 3.5 and figure 5: GPT-3 fine-tuned on FLAN (Wei et al. 2022,
arXiv:2109.01652) and on T0 (Sanh et al. 2022, arXiv:2110.08207), which
InstructGPT is preferred over in 78 ± 4 and 79 ± 4 % of the prompts; the
checkpoint that the reward model likes best on validation prompts. The loss is
on the completion; tasks are mixed in proportion to their rows, with a cap
(`config.mixtures.cap`). A variant ends in -flan (also without an end) or -t0:

  mixture-tiny-flan             the tasks, mixed
  instruction_tuning-tiny-flan  GPT fine-tuned on them, every epoch kept
  select-tiny-flan              the epoch that is picked

which are the rows `flan` and `t0` of `ppo_ptx.py`'s evaluation, if asked for:

  python -m instruct_jax.main --config=experiments/ppo_ptx.py \\
    --config.evaluation.left_out='()'

`:files` mixes your files, a task each (also as T0 is published):
--config.mixtures.t0='t0/*.jsonl'. DEPARTS: the paper goes over a million
examples once; here it is `epochs` over what the cap leaves, each kept.

Hardware: `:tiny` 2 CPU cores, about a minute after `pretrain.py`. Expected for
`:tiny`: short right answers to closed questions, and little else; the README's
results say by how much PPO-ptx is preferred.

  python -m instruct_jax.main --config=experiments/instruction_tuning.py
  python -m instruct_jax.main --config=experiments/instruction_tuning.py:tiny-t0
"""

import re

from ml_collections import ConfigDict

from experiments import common, select, sft
from instruct_jax import paper
from instruct_jax.base import errors

STAGES = ("mixture", "select")
DEFAULTS = sft.DEFAULTS | {
  "needs.sft": "sft.py",
  "needs.demonstrations": "instruction_tuning.py:mixture-{variant}-flan",
  "mixtures": common.MIXED,
  "evaluation.subjects": common.GPT
  | {"sft": common.subject("sft"), "flan": common.subject()},
}
SMALL = sft.SMALL | {"epochs": 3, "validate_every": 40}
EPOCHS = 4  # of the paper's variants
VARIANTS = {
  "tiny": SMALL | {"mixtures.cap": 300},
  "test": SMALL
  | common.TEST_EVALUATION
  | {
    "mixtures.cap": 6,
    "mixtures.rows": 10,
    "batch.demonstrations": 16,
    "validation.demonstrations": 4,
    "epochs": 2,
    "validate_every": 2,
    "save_every": 2,
    "log_every": 2,
  },
  "files": SMALL
  | common.FILES_EVALUATION
  | {"batch.demonstrations": 16, "validation.demonstrations": 16},
} | {
  size: common.fine_tuning(
    paper.INSTRUCTION_TUNING["flan"], "policy", "demonstrations"
  )
  | {"epochs": EPOCHS}
  for size in common.PAPER
}
ENDS = ("", *(f"-{name}" for name in common.MIXTURES))


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b; with -t0 of T0's mixture."""
  stage, variant, name = _parsed(variant)
  config = _STAGES[stage](variant, name)
  with config.unlocked():
    config.variant = f"{variant}-{name}"
  return config


def _parsed(text: str) -> tuple[str, str, str]:
  """'select-tiny-t0' -> ('select', 'tiny', 't0'); no end is flan's."""
  form = rf"(?:({'|'.join(STAGES)})-)?(.*?)(?:-({'|'.join(common.MIXTURES)}))?"
  found = re.fullmatch(form, text)
  assert found is not None  # the form fits everything
  stage, variant, name = found.groups()
  if variant not in VARIANTS:
    known = [f"{name}{end}" for name in VARIANTS for end in ENDS]
    raise errors.unknown("variant of instruction_tuning.py", text, known)
  return stage or "", variant, name or common.MIXTURES[0]


def _training(variant: str, name: str) -> ConfigDict:
  config = common.training(
    "instruction_tuning", variant, "sft", DEFAULTS, VARIANTS
  )
  with config.unlocked():
    of = "instruction_tuning.py:mixture"
    config.needs.demonstrations = f"{of}-{variant}-{name}"
    if name != common.MIXTURES[0]:
      subjects = config.evaluation.subjects
      subjects[name] = subjects[common.MIXTURES[0]]
      del subjects[common.MIXTURES[0]]
    if variant in common.PAPER:
      numbers = paper.INSTRUCTION_TUNING[name]
      config.batch.demonstrations = numbers.batch
      config.validation.demonstrations = numbers.batch
  return config


def _mixture(variant: str, name: str) -> ConfigDict:
  mixed = common.MIXED | {
    key.partition(".")[2]: value
    for key, value in VARIANTS[variant].items()
    if key.startswith("mixtures.")
  }
  changes = {
    "needs.data": "dataset.py",
    "mixtures": mixed | {"name": name},
  }
  return common.base("mixture", variant, "mixture", changes, {variant: {}})


def _select(variant: str, name: str) -> ConfigDict:
  of = f"instruction_tuning.py:{variant}-{name}"
  changes = select.DEFAULTS | {"needs.policy": of}
  return common.base("select", variant, "select", changes, select.VARIANTS)


_STAGES = {"": _training, "mixture": _mixture, "select": _select}
