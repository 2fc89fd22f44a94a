"""What a run hands on, and what is said of folders that are not runs."""

import json
import shutil
import types

import jax
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from instruct_jax.base import errors
from instruct_jax.runs import build, plan, reading, records
from tests import run_folders


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  run_folders.dataset(root)
  run_folders.make(root, "sft", steps=(2, 4))
  run_folders.make(root, "sft", name="going-on", steps=(2, 4), done=False)
  run_folders.make(root, "rm")
  run_folders.make(
    root, "ppo_ptx", policy="select-test", reward="rm-test", sft="select-test"
  )
  config = run_folders.sft.get_config("test").unlock()
  config.job = "select"
  needs = {"data": "../dataset-test", "policy": "../sft-test"}
  record = run_folders.record_of(config, needs)
  run_folders.write_json(root / "select-test" / "config.json", record)
  product = {"run": "../sft-test", "step": 2, "item": "params.policy"}
  run_folders.write_json(
    root / "select-test" / "results.json", {"product": product}
  )
  return root


def same(left, right):
  equal = jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), left, right)
  return all(jax.tree.leaves(equal))


def test_config_needs_and_results(root):
  config = records.read_config(root / "ppo_ptx-test")
  assert config.experiment == "ppo_ptx"
  assert config.rl.clip == 0.2
  needs = records.read_needs(root / "ppo_ptx-test")
  assert needs["reward"].resolve() == (root / "rm-test").resolve()
  assert records.read_results(root / "rm-test")["product"]["step"] == 3
  assert records.reward_run(root / "ppo_ptx-test").name == "rm-test"
  assert records.reward_run(root / "sft-test") is None
  assert records.reward_runs(root / "sft-test") == ()


def test_reward_models_that_judged_together(root):
  """Of a run that was trained on two, and of what is built on it."""
  run_folders.make(root, "rm", name="rm-other", seed=9)
  judges = {"reward_2": "rm-test", "reward": "rm-other"}
  run_folders.make(root, "ppo_ptx", name="on-two", **judges)
  run_folders.make(root, "sft", name="after", policy="on-two")
  for name in ("on-two", "after"):
    found = records.reward_runs(root / name)
    assert [folder.name for folder in found] == ["rm-other", "rm-test"]
    assert records.reward_run(root / name).name == "rm-other"


def test_products(root):
  found = records.product(root / "ppo_ptx-test")
  assert (found.step, found.item, found.role) == (3, "ema.policy", "policy")
  assert records.product(root / "rm-test").role == "reward"
  selected = records.product(root / "select-test")
  assert selected.run.resolve() == (root / "sft-test").resolve()
  assert selected.step == 2
  newest = records.product(root / "going-on", unfinished=True)
  assert (newest.step, newest.item) == (4, "params.policy")
  assert not newest.finished


@pytest.mark.parametrize("mesh", [(1, 1, 1), (2, 2, 2)])
def test_parameters_come_back_placed(root, mesh):
  _, saved = run_folders.make(
    root, "sft", name=f"sft-{mesh[0]}", steps=(2, 4), seed=7
  )
  path = root / f"sft-{mesh[0]}" / "config.json"
  record = json.loads(path.read_text())
  record["config"]["mesh"] = dict(zip(("data", "fsdp", "tensor"), mesh))
  path.write_text(json.dumps(record))
  ctx = reading.open_context(root / f"sft-{mesh[0]}")
  assert ctx.mesh.size == np.prod(mesh)
  for step, expected in ((None, saved[4]), (2, saved[2])):
    found = reading.load_parameters(path.parent, ctx, "policy", step=step)
    assert same(found, expected)
    placed = jax.tree.leaves(found)[0].sharding
    assert placed.mesh == ctx.mesh


def test_a_select_stage_hands_on_the_step_it_chose(root):
  ctx = reading.open_context(root / "select-test")
  chosen = reading.load_parameters(root / "select-test", ctx, "policy")
  direct = reading.load_parameters(root / "sft-test", ctx, "policy", step=2)
  assert same(chosen, direct)


def test_a_mesh_of_other_devices_becomes_one_device(root):
  assert reading.open_context(root / "sft-test").mesh.size == 1


def test_a_damaged_newest_checkpoint_of_a_run_that_goes_on(tmp_path):
  run_folders.dataset(tmp_path)
  folder, saved = run_folders.make(tmp_path, "sft", steps=(2, 4), done=False)
  (folder / "checkpoints" / "4" / "manifest" / "manifest.json").write_text("")
  ctx = reading.open_context(folder)
  found = reading.load_parameters(folder, ctx, "policy", unfinished=True)
  assert same(found, saved[2])
  (folder / "checkpoints" / "2" / "manifest" / "manifest.json").write_text("")
  with pytest.raises(errors.UserError, match="damaged"):
    reading.load_parameters(folder, ctx, "policy", unfinished=True)


def test_what_was_moved_aside_is_read_where_it_is_now(tmp_path):
  """A data set and an SFT run with other settings stand under their names."""

  def change(folder, **changes):
    path = tmp_path / folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

  data = run_folders.dataset(tmp_path)
  sft, saved = run_folders.make(tmp_path, "sft")
  change("dataset-test", digest="old data")
  change("sft-test", digest="old sft", needs_digests={"data": "old data"})
  config = run_folders.sft.get_config("test").unlock()
  config.job = "select"
  needs = {"data": "../dataset-test", "policy": "../sft-test"}
  record = run_folders.record_of(config, needs)
  record["needs_digests"] = {"data": "old data", "policy": "old sft"}
  select = tmp_path / "select-test"
  run_folders.write_json(select / "config.json", record)
  product = {"run": "../sft-test", "step": 3, "item": "params.policy"}
  run_folders.write_json(select / "results.json", {"product": product})
  for folder in (data, sft):
    folder.rename(f"{folder}.old2")
  run_folders.dataset(tmp_path, ["one two three"])
  run_folders.make(tmp_path, "sft", seed=1)
  shutil.copytree(data, f"{data}.old1")
  shutil.copytree(sft, f"{sft}.old1")
  for folder in (select, tmp_path / "sft-test.old2"):
    ctx = reading.open_context(folder)
    assert ctx.tokenizer.encode("what job does ann have ?")
    assert records.read_needs(folder)["data"].name == "dataset-test.old2"
    loaded = reading.load_parameters(folder, ctx, "policy")
    assert same(loaded, saved[3])
  assert records.product(select).run.name == "sft-test.old2"
  assert records.read_needs(sft)["data"].name == "dataset-test"


def test_a_run_of_another_tokenizer_is_told(root, tmp_path):
  """Of as many words, so that every shape fits."""
  folder, _ = run_folders.make(root, "sft", name="told")
  ctx = reading.open_context(folder)
  assert not reading.speaks_other_words(folder, ctx)
  changed = [text.replace("ann", "amy") for text in run_folders.SENTENCES]
  run_folders.dataset(tmp_path, changed)
  run_folders.make(tmp_path, "sft")
  other = reading.open_context(tmp_path / "sft-test")
  assert other.tokenizer.vocab_size == ctx.tokenizer.vocab_size
  assert reading.speaks_other_words(folder, other)


def refused(message, function, *args, **kwargs):
  with pytest.raises(errors.UserError) as caught:
    function(*args, **kwargs)
  assert message in str(caught.value)


def test_errors_name_folder_and_remedy(root):
  refused("It holds the runs", records.product, root)
  refused(
    f"Did you mean {root / 'sft-test'}?", records.product, root / "sft-tst"
  )
  refused("not a run", records.product, root / "nowhere" / "at" / "all")
  refused("has not finished", records.product, root / "going-on")
  refused("hands on no parameters", records.product, root / "dataset-test")
  ctx = reading.open_context(root / "ppo_ptx-test")
  refused(
    "a reward is what this run hands on",
    reading.load_parameters, root / "rm-test", ctx, "policy",
  )  # fmt: skip


def test_another_shape_is_named(root):
  record = json.loads((root / "sft-test" / "config.json").read_text())
  record["config"]["model"]["mlp_width"] += 8
  run_folders.write_json(root / "wider" / "config.json", record)
  ctx = reading.open_context(root / "wider")
  with pytest.raises(errors.UserError, match=r"shape.*up.*kernel"):
    reading.load_parameters(root / "sft-test", ctx, "policy")


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("config.json", "{", "not readable JSON"),
    ("config.json", "{}", 'has no "config"'),
    ("config.json", "[1]", "a JSON object"),
    ("results.json", '{"product": {"run": "."}}', '"product" should hold'),
    ("results.json", '{"product": 3}', '"product" should hold'),
    ("results.json", "{", "Delete it and give the command that made this"),
  ],
)
def test_damaged_files_are_named(root, tmp_path, name, content, message):
  for file in ("config.json", "results.json"):
    text = (root / "sft-test" / file).read_text()
    (tmp_path / file).write_text(content if file == name else text)
  refused(message, records.product, tmp_path)
  refused(str(tmp_path / name), records.product, tmp_path)


@pytest.mark.parametrize(
  ("job", "file", "words"),
  [
    ("train", "metrics.jsonl", "stopped before anything was saved"),
    ("train", "checkpoints/2/_CHECKPOINT_METADATA", "continues where"),
    ("rankings", "chunks/train-00000.json", "continues where it stopped"),
    ("dataset", "", "stopped before anything was saved"),
    ("dataset", "begun.json", "continues where it stopped"),
  ],
)
def test_what_goes_on_is_what_was_saved(tmp_path, caplog, job, file, words):
  folder = epath.Path(tmp_path) / "sft-test"
  for name, text in {"config.json": '{"digest": "x"}', file: "{}"}.items():
    if name:
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / name).write_text(text)
  stage = plan.Stage(ConfigDict({"job": job}), folder, {}, "x")
  waits = types.SimpleNamespace(named=[])
  with caplog.at_level("INFO", "instruct_jax.runs.build"):
    assert build._finished(stage, waits) == (None, "")
  assert words in caplog.text


@pytest.mark.parametrize(("steps", "is_said"), [("3-5", True), ("", False)])
def test_who_asks_for_a_trace_of_what_is_trained_is_told(
  tmp_path, caplog, steps, is_said
):
  config = ConfigDict({"job": "train", "profile": steps})
  stage = plan.Stage(config, epath.Path(tmp_path), {}, "x")
  (tmp_path / "config.json").write_text('{"digest": "x"}')
  results = {"seconds": {}, "metrics": {}, "tables": {}} | {
    "evaluation_digest": ""
  }
  (tmp_path / "results.json").write_text(json.dumps(results))
  with caplog.at_level("WARNING", "instruct_jax.runs.build"):
    found, _ = build._finished(stage, types.SimpleNamespace(named=[]))
  assert found is not None
  assert ("config.profile=3-5: " in caplog.text) == is_said
