"""What people call the subjects, labelers and labels of results.json."""

import re
from typing import Any

from instruct_jax.models import sizes

SUBJECTS = {
  "gpt": "GPT",
  "prompted_gpt": "GPT (prompted)",
  "sft": "SFT",
  "ppo": "PPO",
  "ppo_ptx": "PPO-ptx",
  "dpo": "DPO",
  "best_of_n": "Best-of-n",
  "expert_iteration": "Expert iteration",
  "sft_best_of_n": "SFT (best of n)",
  "rloo": "RLOO",
  "grpo": "GRPO",
  "iterated": "PPO-ptx (iterated)",
  "flan": "FLAN-style",
  "t0": "T0-style",
}
SWEPT = {  # of experiments/sweeps.py
  "gamma": "γ",
  "kl": "β",
  "lr": "learning rate",
  "episodes": "episodes ×",
  "init": "text at the start",
}
GROUPS = {"training": "training labelers", "held_out": "held-out labelers"}
FOLDS = {
  "left_out": "labelers left out",
  "trained_on": "labelers trained on",
  "nobody": "labelers of no group",
  "difference": "trained on less left out",
}
WORDS = {
  "qa": "QA prompt",
  "instruction_qa": "instruction + QA prompt",
  "prompt:none": "no instruction",
  "respectful": "asked for respect",
  "biased": "asked for bias",
  "constraints1": "one constraint",
  "constraints2": "two constraints",
  "constraints3": "three constraints",
}

_SWEPT = re.compile(rf"(\w+?)_({'|'.join(SWEPT)})(\d[\w.-]*)")
SIZES = tuple(sizes.STAND_INS)  # from the smallest
_SIZED = re.compile(rf"({'|'.join(SIZES)})_(\w+)")


def parts(name: str) -> tuple[str, str]:
  """(what a subject has others beside it in, its method), both in words.

  'large_ppo' -> ('large', 'ppo'), 'ppo_ptx_gamma0_1' -> ('γ 0.1', 'ppo_ptx');
  of others the first is ''.
  """
  if found := _SIZED.fullmatch(name):
    return found[1], found[2]
  if (found := _SWEPT.fullmatch(name)) and found[1] in SUBJECTS:
    number = found[3].replace("_", ".")
    return f"{SWEPT[found[2]]} {number}", found[1]
  return "", name


def subject(name: str) -> str:
  """A subject's name as people read it: 'sft_best_of_8', 'SFT (best of 8)'.

  Of a sweep: 'ppo_kl0_5', 'PPO (β 0.5)'.
  """
  group, method = parts(name)
  if group:
    return f"{subject(method)} ({group})"
  chosen = re.fullmatch(r"(\w+)_best_of_(\d+)", name)
  if chosen and name not in SUBJECTS:
    return f"{subject(chosen[1])} (best of {chosen[2]})"
  return SUBJECTS.get(name, name)


def round_of(label: str) -> str:
  """'round2/sft_hot' -> 'round 2: SFT hot'; '' for what is no such label."""
  found = re.fullmatch(r"round(\d+)/(\w+)", label)
  if not found:
    return ""
  whole = SUBJECTS.get(found[2])
  name, _, rest = found[2].partition("_")
  source = whole or " ".join([SUBJECTS.get(name, name), *rest.split("_")])
  return f"round {found[1]}: {source.strip()}"


def words(label: Any, key: str = "") -> str:
  """A label as people read it; `key` is what it stands under in its row."""
  known = SUBJECTS | GROUPS | FOLDS | WORDS
  named = known.get(f"{key}:{label}", known.get(str(label)))
  if named is None:  # keys within a sentence stay what one types
    named = round_of(str(label)) or subject(str(label))
    return named if " " in named else named.replace("_", " ")
  return named
