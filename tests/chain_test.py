"""The real path: the whole chain on `:test`, killed, damaged, resumed."""

import json
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from etils import epath

from experiments import dataset, ppo_ptx
from instruct_jax.base import errors
from instruct_jax.runs import digests as run_digests
from instruct_jax.runs import plan
from tests import built, doors, tiers

ROOT, CONFIG, STAGES = doors.ROOT, built.CONFIG, built.STAGES


def start(workdir, cache, *flags, config=CONFIG, house=0):
  return doors.house(house).start(
    ROOT,
    "instruct_jax.main",
    *(f"--config={config}", f"--workdir={workdir}", *flags),
    INSTRUCT_JAX_CACHE=str(cache),
    JAX_NUM_CPU_DEVICES="1",
  )


def finish(workdir, cache, *flags, config=CONFIG):
  """Runs to the end; (exit code, output)."""
  process = start(workdir, cache, *flags, config=config)
  output, _ = process.communicate(timeout=900)
  return process.returncode, output


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The chain, run once without a disturbance: its folder and output."""
  _, output = built.chain(tmp_path_factory)
  workdir = tmp_path_factory.mktemp("whole")
  return built.copied(tmp_path_factory, workdir), output


def results(workdir, stage):
  path = workdir / f"{stage}-test" / "results.json"
  return json.loads(path.read_text())


NOISY = ("seconds/", "rate/", "memory/")


def metrics(workdir, stage):
  """metrics.jsonl without times and rates."""
  path = workdir / f"{stage}-test" / "metrics.jsonl"
  if not path.exists():
    return []
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  return [
    {k: v for k, v in row.items() if not k.startswith(NOISY)} for row in rows
  ]


def assert_same_outcome(left, right):
  for stage in STAGES:
    a, b = results(left, stage), results(right, stage)
    assert a["parameters_digest"] == b["parameters_digest"], stage
    quiet = [
      {k: v for k, v in x["metrics"].items() if not k.startswith(NOISY)}
      for x in (a, b)
    ]
    assert quiet[0] == quiet[1], stage
    assert a["product"] == b["product"], stage
    assert metrics(left, stage) == metrics(right, stage), stage
  for name in ("train", "validation", "test"):
    files = [w / "rankings-test" / f"{name}.jsonl" for w in (left, right)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_command_builds_everything(whole):
  workdir, output = whole
  for stage in STAGES:
    assert (workdir / f"{stage}-test" / "results.json").exists(), stage
  folder = workdir / "ppo_ptx-test"
  report = (folder / "report.html").read_text()
  assert "<html" in report
  assert "preference" in report.lower()
  final = results(workdir, "ppo_ptx")
  for key in ("experiment", "variant", "seed", "steps", "config_digest"):
    assert final[key] is not None
  assert final["parameters_digest"]
  assert final["peak_memory_bytes"] > 0
  assert final["seconds"]["wall"] > 0
  groups = {name.split("/")[0] for name in final["metrics"]}
  for group in (
    *("objective", "policy", "value", "ptx", "gradient", "response"),
    *("preference", "likert", "metadata", "kl", "toxicity"),
  ):
    assert group in groups, (group, sorted(final["metrics"]))
  assert "ppo_ptx" in output
  rows = metrics(workdir, "ppo_ptx")
  assert [row["step"] for row in rows] == list(range(1, final["steps"] + 1))
  for row in rows:
    assert abs(row["policy/ratio_first_minibatch"] - 1) < 1e-4
  assert list((folder / "tensorboard").glob("events.out.tfevents*"))
  assert (folder / "samples.jsonl").read_text().strip()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_chain_says_how_far_it_is(whole):
  _, output = whole
  starts = re.findall(r"stage (\d)/7 (\w+)-test: starts", output)
  assert starts == [(str(n), name) for n, name in enumerate(STAGES, start=1)]
  for number, name in enumerate(STAGES, start=1):
    line = rf"^stage {number}/7 {name}  (\d+)/\1  100 %"
    assert re.search(line, output, re.MULTILINE), name
  assert re.search(r"^stage 7/7 ppo_ptx evaluation  (\d+)/\1 ", output, re.M)
  # From the second stage on, an estimate; after the last one none.
  assert re.search(r"^stage 2/7 .* chain (about|at least) ", output, re.M)
  assert "chain" not in output[output.rindex("evaluation  ") :]


# What researchers compare with. GRPO, which shares RLOO's module, and best-of-n
# are trained, measured and sent out in stories_test, too.
COMPARED = tiers.often(("dpo", "rloo", "grpo", "best_of_n"), "dpo")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", COMPARED)
def test_what_ppo_is_compared_with_runs_and_is_measured_like_it(
  whole, cache, name
):
  """On what the chain has built; a second start ends with the same bits."""
  workdir, _ = whole
  config = f"experiments/{name}.py:test"
  code, output = finish(workdir, cache, config=config)
  assert code == 0, output
  assert re.findall(r"(\w+)-test: starts", output) == [name]
  ours, ppo = results(workdir, name), results(workdir, "ppo_ptx")
  for evaluation, measured in ppo["evaluations"].items():
    if measured == "measured":  # DPO's rankings allow one more
      assert ours["evaluations"][evaluation] == measured, evaluation
  # Baselines that are left out stand in PPO-ptx's own evaluation alone.
  assert set(ppo["tables"]) - {"left_out"} <= set(ours["tables"])
  evaluated = {
    key.replace("ppo_ptx", name)
    for key in ppo["metrics"]
    if key.endswith("/ppo_ptx")
  }
  assert len(evaluated) > 5
  assert evaluated <= set(ours["metrics"])
  rows = metrics(workdir, name)
  assert [row["step"] for row in rows] == list(range(1, ours["steps"] + 1))
  folder = workdir / f"{name}-test"
  assert name in (folder / "report.html").read_text()
  assert (folder / "samples.jsonl").read_text().strip()
  steps = (folder / "checkpoints").iterdir()
  *_, newest = sorted((p for p in steps if p.name.isdigit()), key=_number)
  shutil.rmtree(newest)
  (folder / "results.json").unlink()
  unmeasured = "--config.evaluation.suite=none"
  code, output = finish(workdir, cache, unmeasured, config=config)
  assert code == 0, output
  assert "resumed at step" in output
  again = results(workdir, name)
  assert again["parameters_digest"] == ours["parameters_digest"]
  assert metrics(workdir, name) == rows


def _number(path):
  return int(path.name)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_policies_are_measured_on_sets_of_data(whole, cache, tmp_path):
  workdir, _ = whole
  endings = ["ann is a nurse .", "a cow .", "bob lives", "in oslo ."]
  lines = [["what job does ann have ?", str(n), *endings] for n in range(4)]
  path = tmp_path / "hellaswag_val.txt"
  path.write_text("\n".join(line for item in lines for line in item))
  flags = f"--config.measure.data={tmp_path}", "--config.needs.ppo=../none"
  experiment = "experiments/evaluate.py:test"
  code, output = finish(workdir, cache, *flags, config=experiment)
  assert code == 2
  assert "config.needs.ppo" in output
  flags = flags[0], "--config.measure.sets=hellaswag,squadv2"
  code, output = finish(workdir, cache, *flags, config=experiment)
  assert code == 0, output
  assert re.findall(r"(\w+)-test: starts", output) == ["ppo", "evaluate"]
  found = results(workdir, "evaluate")
  policies = ("gpt", "sft", "ppo", "ppo_ptx")
  for name in policies:
    share = found["metrics"][f"hellaswag/accuracy/{name}"]
    assert share == 0.25, "each ending is right once"
  report = (workdir / "evaluate-test" / "report.html").read_text()
  assert "hellaswag accuracy" in report
  page = (workdir / "evaluate-test" / "sets" / "report.html").read_text()
  assert "dev-v2.0.json" in page, "the set that is missing"
  code, output = finish(workdir, cache, *flags, config=experiment)
  assert code == 0, output
  assert "starts" not in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_finished_chain_is_reused(whole, cache):
  workdir, _ = whole
  before = {
    p: p.stat().st_mtime_ns for p in workdir.glob("*/checkpoints/*/**/*")
  }
  code, output = finish(workdir, cache)
  assert code == 0, output
  assert "starts" not in output
  after = {
    p: p.stat().st_mtime_ns for p in workdir.glob("*/checkpoints/*/**/*")
  }
  assert before == after


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_moments_it_ends_the_same(whole, cache, tmp_path):
  rng = random.Random(0)
  for number in range(5):
    process = start(tmp_path, cache, house=number % 2)
    try:
      process.communicate(timeout=rng.uniform(1, 9))
    except subprocess.TimeoutExpired:
      process.send_signal(signal.SIGKILL)
      process.communicate()
    else:
      break
  code, output = finish(tmp_path, cache)
  assert code == 0, output
  assert_same_outcome(whole[0], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sigterm_saves_and_says_so(whole, cache, tmp_path):
  for stage in ("dataset", "pretrain"):
    shutil.copytree(whole[0] / f"{stage}-test", tmp_path / f"{stage}-test")
  process = start(
    tmp_path,
    cache,
    "--config.epochs=40",
    "--config.save_every=1000",
    config="experiments/sft.py:test",
  )
  log = tmp_path / "sft-test" / "metrics.jsonl"
  deadline = time.monotonic() + 120
  while not (log.exists() and log.read_text()):
    assert time.monotonic() < deadline
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.1)
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 75, output
  assert "SIGTERM" in output
  folders = (tmp_path / "sft-test" / "checkpoints").glob("[0-9]*")
  saved = {int(p.name) for p in folders}
  assert saved
  last = [json.loads(x)["step"] for x in log.read_text().splitlines()][-1]
  assert last <= max(saved)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
  whole, cache, tmp_path
):
  shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
  folder = tmp_path / "ppo_ptx-test"
  (folder / "results.json").unlink()
  newest = max(
    (p for p in (folder / "checkpoints").iterdir() if p.name.isdigit()),
    key=lambda p: int(p.name),
  )
  largest = max(
    (p for p in newest.rglob("*") if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 1
  largest.write_bytes(bytes(data))
  code, output = finish(tmp_path, cache)
  assert code == 0, output
  assert "damaged" in output
  assert_same_outcome(whole[0], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_divergence_stops_with_the_bad_metric_named(whole, cache, tmp_path):
  for stage in ("dataset", "pretrain"):
    shutil.copytree(whole[0] / f"{stage}-test", tmp_path / f"{stage}-test")
  code, output = finish(
    tmp_path,
    cache,
    # Each update makes every weight some 99 times as large.
    "--config.optimizer.policy.learning_rate=10",
    "--config.optimizer.policy.weight_decay=10",
    "--config.optimizer.policy.warmup_steps=0",
    "--config.epochs=20",
    "--config.max_skipped=3",
    "--config.log_every=1000",
    config="experiments/sft.py:test",
  )
  assert code == 3, output
  assert "first bad metric was gradient/demonstrations_norm" in output
  assert "Traceback" not in output
  rows = metrics(tmp_path, "sft")
  assert not (tmp_path / "sft-test" / "results.json").exists()
  assert list((tmp_path / "sft-test" / "checkpoints").glob("[0-9]*"))
  # However seldom it logs: what it ended with is there to be examined.
  assert rows[-1]["count/skipped_in_a_row"] == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_no_longer_fits_is_moved_aside_and_said(whole, cache, tmp_path):
  for stage in ("dataset", "pretrain", "sft"):
    shutil.copytree(whole[0] / f"{stage}-test", tmp_path / f"{stage}-test")
  code, output = finish(
    tmp_path,
    cache,
    "--config.optimizer.policy.learning_rate=0.002",
    config="experiments/sft.py:test",
  )
  assert code == 0, output
  assert "learning_rate" in output
  assert "0.002" in output
  assert (tmp_path / "sft-test.old1" / "results.json").exists()
  assert "pretrain-test: starts" not in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bad_input_displaces_no_finished_run(whole, cache, tmp_path):
  for stage in ("dataset", "pretrain", "sft"):
    shutil.copytree(whole[0] / f"{stage}-test", tmp_path / f"{stage}-test")

  def contents():
    files = (path for path in tmp_path.rglob("*") if path.is_file())
    return {
      path: path.read_bytes() for path in files if path.name != "report.html"
    }

  before = contents()
  for key in ("model.vocab_size", "data.prompt_length"):
    code, output = finish(
      tmp_path, cache, f"--config.{key}=1", config="experiments/sft.py:test"
    )
    assert code == 2, output
    assert contents() == before
  code, output = finish(tmp_path, cache, config="experiments/sft.py:test")
  assert code == 0, output
  assert "starts" not in output
  assert not list(tmp_path.glob("*.old*"))


PRETRAIN = "experiments/pretrain.py:test"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_at_once_end_with_one_run(cache, tmp_path):
  """The same command twice after one that was killed while it built the data,
  and another config: one works in a folder, and nothing is there twice."""
  lock = tmp_path / ".dataset-test.lock"
  killed = start(tmp_path, cache, config=PRETRAIN)
  while not lock.exists():
    assert killed.poll() is None, killed.communicate()[0]
    time.sleep(0.02)
  killed.send_signal(signal.SIGSTOP)  # It holds the lock, half-way.
  code, output = finish(tmp_path, cache, "--nowait", config=PRETRAIN)
  assert code == 2, output
  assert f"held by process {killed.pid} on" in output
  first = start(tmp_path, cache, config=PRETRAIN)
  killed.kill()
  killed.communicate()
  second = start(tmp_path, cache, config=PRETRAIN)
  other = start(tmp_path, cache, "--config.seed=1", config=PRETRAIN)
  outputs = [job.communicate(timeout=600)[0] for job in (first, second, other)]
  assert [job.returncode for job in (first, second, other)] == [0] * 3, outputs
  together = "".join(outputs)
  assert together.count("dataset-test: starts") == 1
  assert together.count("pretrain-test: starts") == 1
  assert together.count("pretrain-test-seed1: starts") == 1
  steps = [row["step"] for row in metrics(tmp_path, "pretrain")]
  assert steps == sorted(set(steps))
  assert steps[-1] == results(tmp_path, "pretrain")["steps"]
  assert not list(tmp_path.glob(".*.lock"))
  assert not list(tmp_path.glob("*.old*"))


BAD = [
  (["--config.optimizr.policy.name=adam"], "optimizer"),
  (["--config.rl.kl_coeff=1"], "kl_coef"),
  (["--config.batch.prompts=33"], "33"),
  (["--config.rl.minibatches=5"], "minibatches"),
  (["--config.mesh.data=3"], "mesh"),
  (["--config.epochs=1"], "epochs"),
  (["--config.algorithm=pppo"], "ppo"),
  (["--config.needs.policy=/nowhere/run"], "/nowhere/run"),
  (["--confg=x"], "config"),
  (["--config.data.source=files"], "pretraining"),
  (["--config.steps=many"], "steps"),
]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("flags", "word"), BAD)
def test_bad_input_is_named_and_writes_nothing(cache, tmp_path, flags, word):
  code, output = finish(tmp_path / "runs", cache, *flags)
  assert code == 2, output
  assert word in output
  assert "Traceback" not in output
  assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
  ("config", "word"),
  [
    ("experiments/ppo_ptx.py:tiyn", "tiny"),
    ("experiments/nothing.py", "nothing.py"),
    ("experiments/pretrain.py:175b", "variant"),
  ],
)
def test_an_unknown_experiment_or_variant(cache, tmp_path, config, word):
  code, output = finish(tmp_path / "runs", cache, config=config)
  assert code == 2, output
  assert word in output
  assert "Traceback" not in output


def plan_of(tmp_path, **changes):
  config = ppo_ptx.get_config("test").unlock()
  default = ppo_ptx.get_config("test")
  config.update_from_flattened_dict(changes)
  source = epath.Path(ROOT / "experiments" / "ppo_ptx.py")
  overrides = plan.overrides_of(config, default)
  return plan.plan(config, source, epath.Path(tmp_path), overrides)


def digests(stage):
  found = {stage.name: stage.digest}
  for need in stage.needs.values():
    found |= digests(need)
  return found


EVERY = ("dataset", "pretrain", "sft", "rankings", "rm", "select", "ppo_ptx")
TRAINED = EVERY[1:]
REWARDED = ("rm", "select", "ppo_ptx")


@pytest.mark.parametrize(
  ("key", "value", "rebuilt"),
  [
    ("data.world_seed", 8, EVERY),
    ("data.quality", 0.5, EVERY),
    ("data.sizes.prompts", (300, 48, 48), EVERY),
    ("data.vocab_size", 900, EVERY),
    ("data.template", "{prompt} \n \n", TRAINED),
    ("data.prompt_length", 31, TRAINED),
    ("data.response_length", 15, TRAINED),
    ("data.row_length", 63, TRAINED),
    ("data.packing", True, TRAINED),
    ("data.k_max", 12, REWARDED),  # by way of the rankings
    ("model.dropout", 0.1, TRAINED),
    ("model.dtype", "bfloat16", TRAINED),
    ("reward_model.dropout", 0.1, REWARDED),
    ("mesh.data", 2, ()),  # On other devices a run goes on.
    ("mesh.fsdp", 2, ()),
    ("reward.length.weight", 0.1, ("ppo_ptx",)),
    ("rl.kl_coef", 0.3, ("ppo_ptx",)),
    ("steps", 2, ("ppo_ptx",)),
    ("max_skipped", 7, ("ppo_ptx",)),
    ("optimizer.policy.learning_rate", 1e-5, ("ppo_ptx",)),
    ("log_every", 7, ()),
    ("samples", 1, ()),
    ("save_every", 7, ()),
    ("evaluation.prompts", 8, ()),
  ],
)
def test_a_key_rebuilds_what_depends_on_it(tmp_path, key, value, rebuilt):
  before = digests(plan_of(tmp_path))
  assert set(before) == {f"{name}-test" for name in EVERY}
  after = digests(plan_of(tmp_path, **{key: value}))
  changed = {name for name in before if before[name] != after[name]}
  assert changed == {f"{name}-test" for name in rebuilt}


def test_another_width_leaves_the_data_set_alone(tmp_path):
  before = digests(plan_of(tmp_path))
  changes = {
    f"{section}.{name}": value
    for section in ("model", "reward_model")
    for name, value in {"width": 48, "layers": 1, "mlp_width": 96}.items()
  }
  after = digests(plan_of(tmp_path, **changes))
  same = {name for name in before if before[name] == after[name]}
  assert same == {"dataset-test"}


def test_the_data_set_of_files_depends_on_what_is_read_and_how(tmp_path):
  (tmp_path / "a.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
  config = dataset.get_config("files").unlock()
  config.data.demonstrations = str(tmp_path / "a.jsonl")
  config.data.pretraining = str(tmp_path / "a.jsonl")

  def digest(**changes):
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict(changes)
    return run_digests.of_stage(other, {})

  before = digest()
  for changes in (
    {"data.per_user": 9},
    {"data.validation_fraction": 0.2},
    {"data.vocab_size": 400},
    {"data.tokenizer": "bpe"},
    {"data.prompt_length": 9},  # what is too long is counted
    {"data.pretraining": ""},
    {"data.remove_pii": False},
  ):
    assert digest(**changes) != before, changes
  for changes in (
    {"data.world_seed": 1},
    {"data.quality": 0.1},
    {"data.packing": True},
    {"model.width": 8},
    {"reward_model.width": 8},
    {"mesh.data": 2},
    {"evaluation.prompts": 3},
  ):
    assert digest(**changes) == before, changes
  (tmp_path / "a.jsonl").write_text('{"prompt": "a", "response": "c"}\n')
  assert digest() != before


def test_the_seed_is_in_the_folder_s_name_but_not_in_the_dataset_s(tmp_path):
  names = set(digests(plan_of(tmp_path, seed=3)))
  assert "ppo_ptx-test-seed3" in names
  assert "pretrain-test-seed3" in names
  assert "dataset-test" in names


def test_a_need_that_is_empty_or_absent_is_said(tmp_path):
  with pytest.raises(errors.UserError, match=r"needs\.policy"):
    plan_of(tmp_path, **{"needs.policy": ""})
  with pytest.raises(errors.UserError, match=r"nothing\.py"):
    plan_of(tmp_path, **{"needs.policy": "nothing.py:test"})
