"""What people add from files of their own, which nobody here knows.

An algorithm, a reward and an experiment are written into a folder and run
through `main`.
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

from experiments import dataset
from instruct_jax import algorithms
from instruct_jax.base import errors
from instruct_jax.runs import build, plan, references

ROOT = pathlib.Path(__file__).parent.parent
ALGORITHM = '''
"""REINFORCE, with the mean of the batch as its baseline."""

import jax
import jax.numpy as jnp

from instruct_jax import algorithms
from instruct_jax.inference import respond, rewards
from instruct_jax.maths import arrays, rl
from instruct_jax.models import forward


def init(ctx, key, checkpoints):
  return {"policy": forward.init_params(ctx.policy, key)}, {}, {}


def collect(ctx, state, batch, key):
  prompts = {k: batch["prompts"][k] for k in ("prompt", "is_prompt")}
  count = len(prompts["prompt"])
  said = respond.respond_to_rows(
    respond.policy_of(ctx, state.params["policy"]),
    prompts | {"episode": jnp.arange(count, dtype=jnp.int32)},
    key,
  )
  rows = prompts | {"response": said.judged, "is_response": said.is_response}
  terms = rewards.scores(ctx, None, rows)
  score = rewards.total(ctx.config.reward, terms)
  rows = rows | {"gain": score - score.mean()}
  metrics = {f"reward/{name}": (x.sum(), count) for name, x in terms.items()}
  metrics["objective/score"] = (score.sum(), count)
  return {"episodes": jax.tree.map(lambda x: x[None], rows)}, metrics


def loss(ctx, params, frozen, minibatch, key):
  rows = minibatch["episodes"]
  logits = forward.response_logits(ctx.policy, params["policy"], rows)
  gains = -rows["gain"][:, None] * rl.logprobs(logits, rows["response"])
  total, weight = arrays.sum_and_weight(gains, rows["is_response"])
  return {"episodes": (total, weight, 1.0)}, {}


ALGORITHM = algorithms.Algorithm(
  init=init, collect=collect, loss=loss, speaker="policy", is_rewarded=True
)
'''
REWARD = """
def words(prompts, responses):
  assert len(prompts) == len(responses)
  return [float(len(response.split())) for response in responses]
"""
EXPERIMENT = """
from experiments import common

DEFAULTS = {
  "needs": {"data": "dataset.py"},
  "epoch_of": "prompts",
  "batch.prompts": 16,
  "validation.prompts": 16,
  "validate_batches": 1,
  "steps": 2,
  "log_every": 1,
  "samples": 2,
  "optimizer.policy": common.optimizer("adam", 1e-3),
  "reward.model.weight": 0.0,
  "reward.length.weight": 0.5,
  "reward.function.path": "my_reward:words",
}


def get_config(variant="test"):
  variants = {"test": {}}
  return common.training("mine", variant, "my_algorithm", DEFAULTS, variants)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """The data set of `:test`, built once."""
  root = epath.Path(tmp_path_factory.mktemp("data"))
  source = epath.Path(dataset.__file__)
  stage = plan.plan(dataset.get_config("test"), source, root, {})
  build.build(stage)
  return stage.folder


@pytest.fixture
def folder(tmp_path):
  """A folder with the files of somebody who read the contract."""
  for name, text in {
    "my_algorithm.py": ALGORITHM,
    "my_reward.py": REWARD,
    "mine.py": EXPERIMENT,
  }.items():
    (tmp_path / name).write_text(text)
  return tmp_path


def run_main(folder, *arguments):
  """(exit code, output) of `main` on the folder's experiment."""
  process = subprocess.run(
    [
      *(sys.executable, "-m", "instruct_jax.main"),
      *(f"--config={folder}/mine.py", f"--workdir={folder}/runs", *arguments),
    ],
    cwd=ROOT,
    env=os.environ
    | {
      "PYTHONPATH": str(folder),
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": "1",
    },
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  return process.returncode, process.stdout + process.stderr


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_an_algorithm_and_a_reward_of_ones_own(folder, data):
  code, output = run_main(folder, f"--config.needs.data={data}")
  assert code == 0, output
  run = folder / "runs" / "mine-test"
  rows = lines(run / "metrics.jsonl")
  assert [row["step"] for row in rows] == [1, 2]
  for prefix, row in (("", rows[0]), ("", rows[1]), ("validation/", rows[1])):
    function, length = (
      row[f"{prefix}reward/{name}"] for name in ("function", "length")
    )
    assert function > 0 > length
    np.testing.assert_allclose(
      row[f"{prefix}objective/score"],
      function + 0.5 * length,
      rtol=1e-5,
    )
  for sample in lines(run / "samples.jsonl"):
    words = len(sample["response"].split())
    assert words - 0.5 <= sample["score"] <= words
  results = json.loads((run / "results.json").read_text())
  assert results["parameters_digest"]
  assert results["product"]["item"] == "params.policy"


@pytest.mark.parametrize(
  ("name", "body", "message"),
  [
    ("", "", "Did you mean 'ppo'"),
    ("mine_empty", "x = 1", r"mine_empty has no ALGORITHM ="),
    (
      "mine_failing",
      "1 / 0",
      r"cannot be imported: ZeroDivisionError.*mine_failing\.py:1",
    ),
    ("mine.nowhere", "", "there is no module 'mine.nowhere'"),
  ],
)
def test_what_is_no_algorithm_is_named(
  tmp_path, monkeypatch, name, body, message
):
  monkeypatch.syspath_prepend(str(tmp_path))
  if body:
    (tmp_path / f"{name}.py").write_text(body)
  with pytest.raises(errors.UserError, match=message):
    algorithms.named(name or "ppoo")


def test_a_changed_reward_function_is_another_run(folder, data, monkeypatch):
  monkeypatch.syspath_prepend(str(folder))

  def digest():
    for name in ("my_algorithm", "my_reward"):
      sys.modules.pop(name, None)
    importlib.invalidate_caches()
    config, source = references.load_config("mine.py:test", epath.Path(folder))
    with config.unlocked():
      config.needs.data = str(data)
    return plan.plan(config, source, epath.Path(folder) / "runs", {}).digest

  first = digest()
  assert digest() == first
  (folder / "my_reward.py").write_text(REWARD + "\n# longer is no better\n")
  assert digest() != first
