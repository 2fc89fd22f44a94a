"""Adapters under every algorithm of the registry: what moves, what is shared.

With fresh adapters (B is 0) the policy is its reference, bit for bit, where one
program computes both: KLs are exactly 0. Ratios and DPO's rewards compare two
programs, which round each in their own way.
"""

import jax
import numpy as np
import pytest

from instruct_jax import algorithms
from instruct_jax.data.batch import rows as rows_lib
from instruct_jax.parallel import sharding
from instruct_jax.training import step as step_lib
from tests import toys
from tests.lora_test import paths, pointers

SECTION = {"rank": 2, "alpha": 8.0}
SAMPLES = ("ppo", "rloo", "grpo", "best_of_n")
OF_POLICY = ("policy", "reference")  # roles that are made of SFT's arrays
G = 2  # responses to a prompt


def setup(name, **changes):
  """(run, state, checkpoints, a batch on the mesh), `name` as in toys."""
  config = toys.config_of(name, lora=SECTION, **changes).unlock()
  if "rl" in config and "group_size" in config.rl:
    config.rl.group_size = G
  config = config.lock()
  ctx = toys.make_context(config, layers=1)
  given = toys.checkpoints(ctx)
  algorithm = algorithms.named(config.algorithm)
  batch = toys.batch(name, 0)
  if name == "dpo":
    batch["rankings"] |= columns(ctx, given, batch["rankings"])
  run, state = step_lib.setup(ctx, algorithm, 3, given)
  return run, state, given, sharding.global_batch(batch, ctx.mesh)


def columns(ctx, given, rankings):
  """What the reference says of a batch's rankings, before the first step."""
  kept = {n: rankings[n] for n in ("prompt", "response", "ranks", "beats")}
  kept["prompt_length"] = rankings["is_prompt"].sum(axis=1)
  kept["response_length"] = rankings["is_response"].sum(axis=2)
  index = np.arange(toys.B, dtype=np.int32)
  table = rows_lib.Rows("rankings", rows_lib.Padded(kept), index, {}, ())
  dpo = algorithms.named("dpo")
  return dpo.columns(ctx, given, {"rankings": table})["rankings"]


def test_every_algorithm_is_here():
  named = {toys.config_of(name).algorithm for name in toys.EXPERIMENTS}
  assert named == set(algorithms.MODULES)


def ratio(pair):
  total, weight = pair
  return float(total) / float(weight)


QUICK = ("dpo", "rloo")  # a step of each compiles for seconds
STEPS = [
  pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
  for name in toys.EXPERIMENTS
]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_with_adapters(name):
  run, state, given, batch = setup(name)
  given_at = pointers(given)
  before = paths(jax.device_get((state.params, state.ema, state.frozen)))
  bases = paths(jax.device_get(given))
  step = step_lib.compiled(run)
  with jax.set_mesh(run.ctx.mesh):
    collected = run.algorithm.collect(run.ctx, state, batch, jax.random.key(0))
    after, metrics = step(state, *collected, jax.random.key(1))
  trees = (after.params, after.ema, after.frozen)
  found, at = paths(jax.device_get(trees)), pointers(trees)
  assert found.keys() == before.keys()
  moved = set()
  for place, x in found.items():
    field, role, path = place.split("/", 2)
    is_trained = field != "2" and ("/lora_" in path or path.startswith("head/"))
    if is_trained:
      moved |= {place} if not np.array_equal(x, before[place]) else set()
      continue
    of_policy = role in OF_POLICY or name == "rm"
    holder = "policy" if of_policy else "reward"
    source = f"{holder}/{path}"
    assert at[place] == given_at[source], place  # One array for all roles.
    np.testing.assert_array_equal(x, bases[source])
  expected = {p for p in found if p[0] != "2" and p.endswith("/lora_b")}
  expected |= {p for p in found if p[0] == "0" and p.endswith("head/kernel")}
  assert expected
  assert moved >= expected
  assert float(metrics["count/skipped"][0]) == 0
  _check_start(name, run, metrics, collected)


def _check_start(name, run, metrics, collected):
  """Before the first update the policy is the reference."""
  if name in SAMPLES:
    kl = "objective/kl"
    if name == "best_of_n" and run.ctx.config.rl.sampler == "start":
      kl = "objective/kl_reverse"
    assert float(metrics[kl][0]) == 0.0
    assert float(metrics["count/tokens"][0]) > 0
  if name in ("ppo", "rloo", "grpo"):
    first = ratio(metrics["policy/ratio_first_minibatch"])
    np.testing.assert_allclose(first, 1.0, rtol=0, atol=1e-6)
  if name in ("rloo", "grpo"):
    assert float(metrics["objective/kl_k3"][0]) == 0.0
  if name == "grpo":
    rows = collected[0]["policy"]
    np.testing.assert_array_equal(rows["ref_logprobs"], rows["old_logprobs"])
  if name == "dpo":
    for kind in ("chosen", "rejected", "margin"):
      assert abs(ratio(metrics[f"rewards/{kind}"])) < 1e-6, kind
    assert abs(ratio(metrics["policy/forward_kl"])) < 1e-5


def test_best_of_n_of_the_start_samples_without_adapters():
  """Its sampler is the base: whatever the adapters are, the same answers."""
  rl = toys.config_of("best_of_n").rl.to_dict() | {"sampler": "start"}
  run, state, _, batch = setup("best_of_n", rl=rl)
  drifted = jax.tree_util.tree_map_with_path(
    lambda path, x: x + 0.5 if "lora_b" in str(path) else x, state.params
  )
  answers, kls = [], []
  with jax.set_mesh(run.ctx.mesh):
    for params in (state.params, drifted):
      parts, metrics = run.algorithm.collect(
        run.ctx, state.replace(params=params), batch, jax.random.key(0)
      )
      answers.append(np.asarray(parts["demonstrations"]["response"]))
      kls.append(float(metrics["objective/kl_reverse"][0]))
  np.testing.assert_array_equal(*answers)
  assert kls[0] == 0.0 != kls[1]
  assert np.isfinite(kls[1])


def test_a_reference_of_dpo_is_the_base_after_steps_too():
  """A resumed run computes its columns again: of the base, not the policy."""
  run, state, given, batch = setup("dpo")
  step = step_lib.compiled(run)
  with jax.set_mesh(run.ctx.mesh):
    for i in range(2):
      collected = run.algorithm.collect(
        run.ctx, state, batch, jax.random.key(i)
      )
      state, metrics = step(state, *collected, jax.random.key(i))
  assert float(metrics["rewards/margin"][0]) != 0.0
  again = columns(run.ctx, given, toys.batch("dpo", 0)["rankings"])
  np.testing.assert_array_equal(
    again["ref_logprobs"], batch["rankings"]["ref_logprobs"]
  )
