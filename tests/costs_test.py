"""What a stage will cost: by an earlier run of it, by its work."""

import dataclasses
import json
import os

import pytest
from etils import epath

from experiments import ppo_ptx, rankings, rm, select, sft, sizes
from instruct_jax.base import chain
from instruct_jax.runs import costs, crew, plan


def stage(folder, config, **needs):
  return plan.Stage(config, epath.Path(folder), needs, "digest")


def write_run(folder, config, *, seconds, age=0, metrics=None):
  """A finished run, `age` seconds old."""
  folder.mkdir(parents=True)
  results = {"experiment": config.experiment, "variant": config.variant}
  results |= {"seconds": seconds, "metrics": metrics or {}, "tables": {}}
  results["evaluation_digest"] = ""
  (folder / "results.json").write_text(json.dumps(results))
  written = json.loads(config.to_json_best_effort())
  (folder / "config.json").write_text(json.dumps({"config": written}))
  then = os.stat(folder / "results.json").st_mtime - age
  os.utime(folder / "results.json", (then, then))


@pytest.fixture
def config():
  config = ppo_ptx.get_config("test").unlock()
  config.steps = 10
  return config


def test_the_newest_run_of_the_same_tells(tmp_path, config):
  mine = stage(tmp_path / "ppo_ptx-test", config)
  assert costs.Estimate(mine, "")().seconds is None
  write_run(tmp_path / "ppo_ptx-test-seed1", config, seconds={"wall": 50.0})
  write_run(
    tmp_path / "ppo_ptx-test.old1",
    config,
    seconds={"wall": 99.0, "compile": 4.0, "evaluation": 7.0},
    age=9,
  )
  (tmp_path / "ppo_ptx-test-seed2").mkdir()
  (tmp_path / "ppo_ptx-test-seed2" / "results.json").write_text("{ torn")
  other = rm.get_config("test")
  write_run(tmp_path / "ppo_ptx-test9", other, seconds={"wall": 1.0})
  assert costs.Estimate(mine, "")().seconds == 50
  # The newest one was not evaluated.
  assert costs.Estimate(mine, costs.EVALUATION)().seconds == 7


def test_more_steps_take_longer_but_do_not_compile_longer(tmp_path, config):
  write_run(
    tmp_path / "ppo_ptx-test-seed1",
    config,
    seconds={"wall": 50.0, "compile": 10.0},
  )
  config.steps = 30
  more = costs.Estimate(stage(tmp_path / "ppo_ptx-test", config), "")()
  assert more.seconds == pytest.approx(10 + 3 * 40)


def test_an_epoch_is_known_once_its_rows_are(tmp_path):
  config = sft.get_config("test")
  data = stage(tmp_path / "dataset-test", config)
  mine = stage(tmp_path / "sft-test", config, data=data)
  estimate = costs.Estimate(mine, "")
  assert estimate() == chain.Cost()
  found = {"demonstrations/train_rows": 64}
  write_run(tmp_path / "dataset-test", config, seconds={}, metrics=found)
  once = estimate().work
  twice = dataclasses.replace(mine, config=config.copy_and_resolve_references())
  twice.config.unlock().epochs *= 2
  assert costs.Estimate(twice, "")().work == pytest.approx(2 * once)
  files = {"demonstrations": {"train": {"rows": 128}}}  # as people's files say
  (tmp_path / "dataset-test" / "results.json").write_text(
    json.dumps({"metrics": files})
  )
  assert estimate().work == pytest.approx(2 * once)


def test_work_grows_with_what_is_done(tmp_path):
  for module, key in (
    (rankings, "rankings.train"),
    (select, "selection.prompts"),
    (ppo_ptx, "steps"),
    (ppo_ptx, "batch.prompts"),
    (ppo_ptx, "model.width"),
  ):
    config = module.get_config("test").unlock()
    one = costs.Estimate(stage(tmp_path / "x", config), "")().work
    config.update_from_flattened_dict({key: 4 * _value(config, key)})
    more = costs.Estimate(stage(tmp_path / "x", config), "")().work
    assert 0 < one < more
  # Of rollouts and updates: so much more than the pretraining beside them.
  config = ppo_ptx.get_config("test")
  evaluated = costs.Estimate(stage(tmp_path / "x", config), costs.EVALUATION)()
  assert evaluated.work > 0


def test_only_what_is_to_be_done_is_counted(tmp_path, config):
  done = stage(tmp_path / "sft-test", sft.get_config("test"))
  write_run(done.folder, done.config, seconds={})
  (done.folder / "config.json").write_text('{"digest": "digest"}')
  other = stage(tmp_path / "select-test", select.get_config("test"))
  write_run(other.folder, other.config, seconds={})  # of other settings
  last = stage(tmp_path / "ppo_ptx-test", config)
  needs = crew.needs_of([done, other, last])
  chain_of = costs.chain_of([done, other, last], needs)
  assert chain_of.title("sft-test") == ""
  assert chain_of.title("select-test") == "stage 1/2 "
  assert chain_of.title("ppo_ptx-test") == "stage 2/2 "
  parts = [(part.stage, part.name) for part in chain_of._parts]
  assert parts == [
    ("select-test", ""),
    ("ppo_ptx-test", ""),
    ("ppo_ptx-test", "evaluation"),
  ]


def test_a_config_of_before_is_no_reason_to_fail(tmp_path, config):
  mine = stage(tmp_path / "ppo_ptx-test", config)
  write_run(tmp_path / "ppo_ptx-test-seed1", config, seconds={"wall": 50.0})
  path = tmp_path / "ppo_ptx-test-seed1" / "config.json"
  for text in ("{}", "[]", '{"config": {"job": "train"}}', '{"config": 3}'):
    path.write_text(text)
    assert costs.Estimate(mine, "")().seconds == 50


def _value(config, key):
  for part in key.split("."):
    config = config[part]
  return config


def test_a_comparison_costs_what_its_models_do(tmp_path):
  """Twice the layers of one of two subjects: half as much more."""
  config = sizes.get_config("compare-test-one").unlock()
  names = list(config.evaluation.subjects)
  for name in names[2:]:
    del config.evaluation.subjects[name]
  runs = {}
  for n, name in enumerate(names[:2]):
    config.evaluation.subjects[name].run = f"run{n}"
    made = sft.get_config("test").unlock()
    runs[f"run{n}"] = stage(tmp_path / f"run{n}", made)
  mine = stage(tmp_path / "compare-test-one", config, **runs)
  once = costs.Estimate(mine, "")().work
  runs["run1"].config.model.layers *= 2
  assert costs.Estimate(mine, "")().work == pytest.approx(1.5 * once)


def test_what_asks_no_model_takes_no_time(tmp_path):
  mine = stage(tmp_path / "sizes-test", sizes.get_config("test"))
  assert costs.Estimate(mine, "")() == chain.Cost(seconds=1.0)
