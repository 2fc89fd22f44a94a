"""Steps 2 and 3 iterated: comparisons of the newest policy, new RM, new policy.

Paper: section 3.1: "Steps 2 and 3 can be iterated continuously; more comparison
data is collected on the current best policy, which is used to train a new RM
and then a new policy", most of the comparisons from supervised policies, some
from PPO policies. Round 1 is `ppo_ptx.py` with all that it needs. Round r:

  candidates-tiny-round2  prompts that were not compared before, answered by SFT
                          as in round 1 and, a share of it, by the policy of
                          round r - 1
  rankings-tiny-round2    the same ranked, after all earlier rankings
  rm-tiny-round2          a reward model of all comparisons so far, from SFT
                          again (Stiennon et al. 2020 retrain on all data)
  iterated-tiny           the policy of round 2, from the SFT baseline again;
                          --config.needs.policy=ppo_ptx.py:tiny goes on from
                          round 1's. Of round 3: iterated-tiny-round3

Who ranks (`config.rankings.labeler`): `world`, the simulated labelers;
`reward`, a reward model (`config.rankings.model`, by default round 1's: its own
taste and no person's; a run's folder or hf:/path of a better one is the gold
model of Gao et al., arXiv:2210.10760), which is what `:files` does unless it is
told otherwise; a function of yours, MODULE:FUNCTION; `people`: the command
stops (exit code 2) with to_rank.jsonl for them and goes on when it is given
again and `config.rankings.file`, say ranked-{round}.jsonl, is there.
`config.candidates` and `config.rankings` pass down to every round but the
first.

Hardware: `:tiny` 2 CPU cores, about three minutes after `ppo_ptx.py:tiny`.
Expected for `:tiny`: the README's results say what a second round is worth.

  python -m instruct_jax.main --config=experiments/iterated.py
  python -m instruct_jax.main --config=experiments/iterated.py:tiny-round3
"""

import re

from ml_collections import ConfigDict

from experiments import common, ppo_ptx, rankings, rm
from instruct_jax import paper
from instruct_jax.base import errors

ROUNDS = 2  # where a variant does not say how many
MOST = 20  # every round's policy is evaluated beside all others
STAGES = ("candidates", "rankings", "rm")
NEWEST = 0.35  # of the responses that are ranked; the others as in round 1


def _sources():
  """Who answers: round 1's sources, and the newest policy, "policy"."""
  before = rankings.DEFAULTS["rankings"]["sources"]
  sources = {
    name: dict(source) | {"share": round(source["share"] * (1 - NEWEST), 6)}
    for name, source in before.items()
  }
  newest = {"policy": "policy", "temperature": 1.0, "prompted": False}
  return sources | {"policy": newest | {"share": NEWEST}}


DEFAULTS = ppo_ptx.DEFAULTS | {
  "candidates": {
    "round": ROUNDS,
    "k_min": paper.K_MIN,
    "k_max": paper.K_MAX,
    "train": 3000,
    "validation": 200,
    "test": 300,
    "chunk": 250,
    "batch": 128,
    "sources": _sources(),
  },
  "rankings": {
    "round": ROUNDS,
    "labeler": "people",
    "model": "rm.py",
    "file": "",
  },
}
WORLD = {"rankings.labeler": "world"}
VARIANTS = ppo_ptx.VARIANTS | {
  "tiny": ppo_ptx.VARIANTS["tiny"] | WORLD,
  "test": ppo_ptx.VARIANTS["test"]
  | WORLD
  | {
    "candidates.train": 48,
    "candidates.validation": 16,
    "candidates.test": 16,
    "candidates.chunk": 16,
    "candidates.batch": 64,
  },
  "files": ppo_ptx.VARIANTS["files"]
  | {
    "rankings.labeler": "reward",
    "candidates.train": 500,
    "candidates.validation": 50,
    "candidates.test": 50,
    "candidates.chunk": 50,
    "candidates.batch": 32,
  },
}


def get_config(variant="tiny"):
  """Variants: tiny, test, files, 1.3b, 6b, 175b; with -round3 of 3 rounds."""
  stage, variant, number = _parsed(variant)
  config = common.training("iterated", variant, "ppo", DEFAULTS, VARIANTS)
  with config.unlocked():
    config.rankings.model = f"rm.py:{variant}"
    config.rankings.round = config.candidates.round = number
  if stage:
    made = _STAGES[stage](config, variant, number)
    with made.unlocked():
      made.variant = f"{variant}-round{number}"
    return made.lock()
  with config.unlocked():
    _evaluate_rounds(config, variant, number)
    config.needs.reward = _of_round("rm", variant, number)
    if number != ROUNDS:
      config.variant = f"{variant}-round{number}"
  return config


def _parsed(text: str) -> tuple[str, str, int]:
  """'rm-tiny-round2' -> ('rm', 'tiny', 2); no stage is the policy, ''."""
  form = rf"(?:({'|'.join(STAGES)})-)?(.*?)(?:-round(-?\d+))?"
  found = re.fullmatch(form, text)
  assert found is not None  # the form fits everything
  stage, variant, number = found.groups()
  if variant not in VARIANTS:
    raise errors.unknown("variant of iterated.py", variant, VARIANTS)
  if number is not None and float(number) > MOST:
    raise errors.UserError(
      f"iterated.py:{text[:60]}: {MOST} rounds are the most that are compared"
      f" with each other, as in iterated.py:{variant}-round{MOST}"
    )
  number = ROUNDS if number is None else int(number)
  if number < ROUNDS:
    raise errors.UserError(
      f"iterated.py:{text}: -round{number}: rounds are iterated from the second"
      f" on, as in iterated.py:{variant}-round3; the first is"
      f" ppo_ptx.py:{variant}"
    )
  return stage or "", variant, number


def _of_round(stage: str, variant: str, number: int) -> str:
  """The reference of a stage ('policy', 'rankings', 'rm') of a round."""
  if number >= ROUNDS:
    of_stage = "" if stage == "policy" else f"{stage}-"
    return f"iterated.py:{of_stage}{variant}-round{number}"
  if stage == "rankings" and "needs.rankings" not in rm.VARIANTS.get(
    variant, {}
  ):
    return ""  # the data set has them
  first = {"policy": "ppo_ptx", "rankings": "rankings", "rm": "rm"}
  return f"{first[stage]}.py:{variant}"


def _given(needs: dict[str, str]) -> dict[str, str]:
  return {name: reference for name, reference in needs.items() if reference}


def _candidates(config: ConfigDict, variant: str, number: int) -> ConfigDict:
  needs = {
    "data": config.needs.data,
    "sft": f"sft.py:{variant}",
    "policy": _of_round("policy", variant, number - 1),
    **_given({"rankings": _of_round("rankings", variant, number - 1)}),
    "gpt": config.needs.gpt,
  }
  changes = {"needs": needs, "candidates": config.candidates.to_dict()}
  return _base("candidates", variant, "candidates", changes)


def _rankings(config: ConfigDict, variant: str, number: int) -> ConfigDict:
  needs = {
    "data": config.needs.data,
    "candidates": _of_round("candidates", variant, number),
    **_given({"rankings": _of_round("rankings", variant, number - 1)}),
  }
  changes = {"needs": needs, "rankings": config.rankings.to_dict()}
  return _base("rankings", variant, "label", changes)


def _base(experiment, variant, job, changes):
  return common.base(experiment, variant, job, changes, {variant: {}})


def _rm(config: ConfigDict, variant: str, number: int) -> ConfigDict:
  del config
  made = rm.get_config(variant)
  with made.unlocked():
    made.needs.rankings = _of_round("rankings", variant, number)
    # As many of every round.
    made.evaluation.prompts *= number
  return made


def _evaluate_rounds(config: ConfigDict, variant: str, number: int) -> None:
  """Every round's policy is a subject, and every reward model is compared."""
  names = {1: "ppo_ptx"} | {n: f"round{n}" for n in range(ROUNDS, number)}
  subjects = config.evaluation.subjects
  del subjects["ppo_ptx"]  # where it stands for the run itself
  for n, name in names.items():
    config.needs[name] = _of_round("policy", variant, n)
    subjects[name] = ConfigDict(common.subject(name))
    config.needs[f"reward_{name}"] = _of_round("rm", variant, n)
    config.evaluation.reward_models[name] = f"reward_{name}"
  subjects["iterated"] = ConfigDict(common.subject())
  config.evaluation.reward_models["iterated"] = "reward"
  config.needs.rankings = _of_round("rankings", variant, number)


_STAGES = {"candidates": _candidates, "rankings": _rankings, "rm": _rm}
