"""Sweeps: which runs there are, what differs between them, who is compared."""

import json

import jax
import numpy as np
import pytest
from etils import epath

from experiments import kl_penalty, ppo, ppo_ptx, sweeps
from instruct_jax.base import errors, keys
from instruct_jax.report import wording
from instruct_jax.runs import plan, reading, references
from tests import built, chain_test

EXPERIMENTS = epath.Path(sweeps.__file__).parent


def planned(root, reference, **changes):
  config, source = references.load_config(reference, EXPERIMENTS)
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(changes)
  return plan.plan(config, source, epath.Path(root), {})


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
  whole = planned(tmp_path_factory.mktemp("runs"), "sweeps.py:tiny")
  return {stage.name: stage for stage in plan.in_order(whole)}


POINTS = {
  *("ppo_ptx-tiny-gamma0.03", "ppo_ptx-tiny-gamma0.1"),
  *("ppo_ptx-tiny-gamma0.3", "ppo_ptx-tiny-gamma3"),
  *("ppo-tiny-kl0.03", "ppo-tiny-kl0.5", "ppo-tiny-kl2", "ppo-tiny-long"),
  *("ppo_ptx-tiny-lr1e-4", "ppo_ptx-tiny-lr2e-4"),
  *("ppo_ptx-tiny-lr1e-3", "ppo_ptx-tiny-lr2e-3"),
  "ppo_ptx-tiny-episodes4",
  *("ppo_init-tiny-init0", "ppo_init-tiny", "ppo_init-tiny-init0.5"),
  *("ppo_ptx-tiny-init0", "ppo_ptx-tiny-init0.1", "ppo_ptx-tiny-init0.5"),
}


def test_every_point_is_a_run_of_its_own(stages):
  shared = {
    *("dataset", "pretrain", "sft", "rankings", "rm", "select"),
    *("ppo", "ppo_ptx"),
  }
  compared = {f"compare-tiny-{sweep}" for sweep in sweeps.SWEEPS}
  expected = POINTS | compared | {f"{name}-tiny" for name in shared}
  assert set(stages) == expected | {"sweeps-tiny"}
  digests = [stage.digest for stage in stages.values()]
  assert len(set(digests)) == len(digests)


def test_what_is_the_default_s_is_shared_with_it(stages, tmp_path):
  for reference in ("ppo_ptx.py:tiny", "ppo.py:tiny"):
    for stage in plan.in_order(planned(tmp_path, reference)):
      if not stage.name.startswith("instruction_tuning"):
        assert stages[stage.name].digest == stage.digest


@pytest.mark.parametrize(
  ("name", "differing"),
  [
    ("ppo_ptx-tiny-gamma3", {"rl.ptx_coef": 3.0}),
    ("ppo_ptx-tiny-gamma0.03", {"rl.ptx_coef": 0.03}),
    ("ppo-tiny-kl2", {"rl.kl_coef": 2.0}),
    ("ppo_ptx-tiny-lr2e-4", {"optimizer.policy.learning_rate": 2e-4}),
    ("ppo_ptx-tiny-episodes4", {"steps": 56, "keep_every": 7}),
    (
      "ppo_ptx-tiny-init0.5",
      {"needs.policy": "sweeps.py:ppo_init-tiny-init0.5"},
    ),
    ("ppo_ptx-tiny-init0.1", {"needs.policy": "ppo_init.py:tiny"}),
  ],
)
def test_one_number_differs_from_the_default(stages, name, differing):
  module = ppo if name.startswith("ppo-") else ppo_ptx
  plain = keys.flatten(module.get_config("tiny"))
  there = keys.flatten(stages[name].config)
  found = {key: there[key] for key in plain if plain[key] != there[key]}
  variant = name.partition("-")[2]
  assert found == differing | {"variant": variant}
  assert set(there) == set(plain)


def test_text_in_the_initialisation(stages):
  none, half = (stages[f"ppo_init-tiny-init{x}"].config for x in ("0", "0.5"))
  assert (none.loss.demonstrations, none.loss.pretraining) == (1.0, 0.0)
  assert none.batch.pretraining == 0
  assert (half.loss.demonstrations, half.loss.pretraining) == (0.5, 0.5)
  assert half.batch.pretraining == half.batch.demonstrations == 32
  policy = stages["ppo_ptx-tiny-init0.5"].needs["policy"]
  assert policy.name == "ppo_init-tiny-init0.5"


def of_sweep(stages, sweep):
  """{subject: (folder of its run, step)} of a comparison."""
  stage = stages[f"compare-tiny-{sweep}"]
  return {
    name: (stage.needs[section.run].name, section.step)
    for name, section in stage.config.evaluation.subjects.items()
  }


def test_who_is_compared(stages):
  both = {"gpt": ("pretrain-tiny", 0), "sft": ("select-tiny", 0)}
  ptx = {"ppo_ptx": ("ppo_ptx-tiny", 0)}
  assert of_sweep(stages, "gamma") == {
    **both,
    **ptx,
    "ppo": ("ppo-tiny", 0),
    "ppo_ptx_gamma0_03": ("ppo_ptx-tiny-gamma0.03", 0),
    "ppo_ptx_gamma0_1": ("ppo_ptx-tiny-gamma0.1", 0),
    "ppo_ptx_gamma0_3": ("ppo_ptx-tiny-gamma0.3", 0),
    "ppo_ptx_gamma3": ("ppo_ptx-tiny-gamma3", 0),
  }
  assert of_sweep(stages, "kl") == {
    **both,
    "ppo": ("ppo-tiny", 0),
    "ppo_kl0_01": ("ppo-tiny-long", 14),  # as many steps as the others
    "ppo_kl0_03": ("ppo-tiny-kl0.03", 0),
    "ppo_kl0_5": ("ppo-tiny-kl0.5", 0),
    "ppo_kl2": ("ppo-tiny-kl2", 0),
  }
  long = "ppo_ptx-tiny-episodes4"
  assert of_sweep(stages, "episodes") == {
    **both,
    **ptx,
    "ppo_ptx_episodes0_5": (long, 7),
    "ppo_ptx_episodes2": (long, 28),
    "ppo_ptx_episodes4": (long, 0),
  }
  for sweep in sweeps.SWEEPS:
    section = stages[f"compare-tiny-{sweep}"].config.evaluation
    assert section.baseline == "sft"


def test_larger_penalties_alone_stand_beside_both_methods(stages, tmp_path):
  plan_of = planned(tmp_path, "kl_penalty.py:tiny")
  found = {
    name: plan_of.needs[section.run]
    for name, section in plan_of.config.evaluation.subjects.items()
  }
  assert {name: stage.name for name, stage in found.items()} == {
    "gpt": "pretrain-tiny",
    "sft": "select-tiny",
    "ppo": "ppo-tiny",
    "ppo_ptx": "ppo_ptx-tiny",
    "ppo_kl0_5": "ppo-tiny-kl0.5",
    "ppo_kl2": "ppo-tiny-kl2",
  }
  assert found["ppo_kl2"].digest == stages["ppo-tiny-kl2"].digest
  assert plan_of.config.evaluation.prompts == 1024
  with pytest.raises(errors.UserError, match=r"variant .*'tine'"):
    kl_penalty.get_config("tine")


def test_a_step_that_is_not_kept_is_refused(tmp_path):
  reference, subject = "sweeps.py:compare-tiny-episodes", "ppo_ptx_episodes2"
  key = f"evaluation.subjects.{subject}.step"
  for step in (6, 63):  # no multiple of 7; after the last
    with pytest.raises(errors.UserError, match=f"step={step}: .*every 7 of 56"):
      planned(tmp_path, reference, **{key: step})
  key = "evaluation.subjects.ppo_ptx.step"
  with pytest.raises(errors.UserError, match="no step but its last"):
    planned(tmp_path, reference, **{key: 7})


@pytest.mark.parametrize(
  "variant",
  [
    *("tinny", "compare-tiny-gama", "ppo_ptx-tiny-gamma7", "ppo-tiny-gamma3"),
    *("ppo_ptx-tiny-episodes2", "ppo-tiny-kl0.01", "ppo_init-tiny-init0.1"),
    "compare-files-gamma",
  ],
)
def test_unknown_variants_are_refused(variant):
  with pytest.raises(errors.UserError, match=r"variant of sweeps\.py"):
    sweeps.get_config(variant)


def test_names_of_subjects_in_words():
  assert wording.subject("ppo_ptx_gamma0_03") == "PPO-ptx (γ 0.03)"
  assert wording.subject("ppo_kl2") == "PPO (β 2)"
  assert wording.subject("ppo_ptx_lr2e-4") == "PPO-ptx (learning rate 2e-4)"
  assert wording.subject("ppo_ptx_init0") == "PPO-ptx (text at the start 0)"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_end_to_end(tmp_path, tmp_path_factory):
  built.copied(tmp_path_factory, tmp_path / "runs")
  config = "experiments/sweeps.py:compare-test-episodes"
  flags = ("--config.evaluation.split=validation",)
  code, output = chain_test.finish(
    tmp_path / "runs", tmp_path / "cache", *flags, config=config
  )
  assert code == 0, output
  runs = epath.Path(tmp_path / "runs")
  results = json.loads(
    (runs / "compare-test-episodes/results.json").read_text()
  )
  rows = {row["subject"]: row for row in results["tables"]["models"]}
  episodes = {name: row.get("episodes") for name, row in rows.items()}
  assert episodes == {
    "gpt": None,
    "sft": None,
    "ppo_ptx": 4 * 32,
    "ppo_ptx_episodes0_5": 2 * 32,
    "ppo_ptx_episodes4": 16 * 32,
  }
  for name in rows:
    assert f"likert/{name}" in results["metrics"]
  assert (runs / "compare-test-episodes/report.html").exists()
  # A step of the long run is what a run of so many steps ends with.
  long = runs / "ppo_ptx-test-episodes4"
  ctx = reading.open_context(long)
  kept = reading.load_parameters(long, ctx, "policy", step=4)
  short = reading.load_parameters(runs / "ppo_ptx-test", ctx, "policy")
  jax.tree.map(np.testing.assert_array_equal, kept, short)
