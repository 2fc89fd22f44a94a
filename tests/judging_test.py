"""The judge's grades of a step's episodes, beside the reward model's score."""

import types

import jax
import numpy as np
import pytest

from instruct_jax import algorithms
from instruct_jax.inference import encode
from instruct_jax.parallel import sharding
from instruct_jax.training import judging
from instruct_jax.worlds.microworld import answers
from tests import evals_toys, processes

PPO = algorithms.named("ppo")


def make(**changes):
  """A batch of prompts and its episodes, permuted into two minibatches.

  Some are answered well, one is cut, and the last row only fills up.
  """
  ctx = evals_toys.make_context(evals_toys.config_of(**changes))
  rows = ctx.rows("prompts", "validation")
  batch = rows.take(np.arange(8))
  records = [rows.source[int(i)] for i in batch["index"]]
  ideal = evals_toys.writer(records, answers.ideal)
  texts = ideal([r["prompt"] for r in records])
  texts = [t if n % 3 else "." for n, t in enumerate(texts)]
  ended = [n != 5 for n in range(8)]
  said = encode.responses(ctx, texts, ended)
  part = {
    "prompt": batch["prompt"],
    "is_prompt": batch["is_prompt"],
    "response": said["response"],
    "is_response": said["is_response"],
  }
  batch["index"][7] = -1
  part["is_response"][7] = False
  order = np.random.default_rng(0).permutation(8)
  minibatches = {
    "ptx": {"token": np.zeros((2, 4))},
    "policy": {k: x[order].reshape(2, 4, -1) for k, x in part.items()},
  }
  grades = [
    ctx.world.judge.grade(record["spec"], text, end)
    for record, text, end in list(zip(records, texts, ended))[:7]
  ]
  return ctx, {"prompts": batch}, minibatches, grades


@pytest.fixture(scope="module")
def episodes():
  return make()


def test_every_episode_is_graded_by_its_own_prompt(episodes):
  ctx, batch, minibatches, grades = episodes
  judged = judging.Judging(ctx, PPO, "validation")
  metrics = judged.metrics(batch, minibatches)
  assert len({g["likert"] for g in grades}) > 1
  for name in ("likert", "score"):
    total, weight = metrics[f"judge/{name}"]
    assert weight == 7
    assert total == pytest.approx(sum(g[name] for g in grades))
  assert set(metrics) == {"judge/likert", "judge/score"}


def test_nothing_is_graded_where_nobody_judges_or_nothing_was_sampled(episodes):
  ctx, batch, minibatches, _ = episodes
  for algorithm, asked, said in (
    (algorithms.named("sft"), batch, minibatches),
    (PPO, {}, minibatches),
    (PPO, batch, {"ptx": minibatches["ptx"]}),
  ):
    judged = judging.Judging(ctx, algorithm, "validation")
    assert judged.metrics(asked, said) == {}
  nobody = types.SimpleNamespace(world=types.SimpleNamespace(judge=None))
  assert judging.Judging(nobody, PPO, "train").metrics(batch, minibatches) == {}


PROCESSES = """
from tests import judging_test
print(judging_test.spread_out())
"""


def spread_out():
  """The metrics where every process has its share of the rows alone."""
  ctx, batch, minibatches, _ = make(**{"mesh.data": jax.device_count()})
  share = 8 // jax.process_count()
  mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
  flat = {
    name: x.reshape(8, x.shape[-1])[mine]
    for name, x in minibatches["policy"].items()
  }
  asked = {name: x[mine] for name, x in batch["prompts"].items()}
  asked, said = sharding.global_batch((asked, flat), ctx.mesh)

  @jax.jit
  def split(rows):
    return jax.tree.map(lambda x: x.reshape(2, 4, -1), rows)

  judged = judging.Judging(ctx, PPO, "validation")
  return judged.metrics({"prompts": asked}, {"policy": split(said)})


@pytest.mark.slow
def test_two_processes_grade_every_episode_once(episodes):
  ctx, batch, minibatches, _ = episodes
  alone = judging.Judging(ctx, PPO, "validation").metrics(batch, minibatches)
  outputs = processes.together(PROCESSES, devices=2)
  assert [x.splitlines()[-1] for x in outputs] == [str(alone)] * 2
