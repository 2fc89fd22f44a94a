"""The chain from a pretrained checkpoint: what it decides, and a real run."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from etils import epath

from experiments import ppo_ptx, sft
from instruct_jax import main
from instruct_jax.base import errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.runs import config_checks, exchange, plan, records, references
from tests import exchange_test

ROOT = pathlib.Path(__file__).parents[1]
EXPERIMENTS = epath.Path(ROOT / "experiments")


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def data_files(folder):
  """Demonstrations, rankings, prompts and text, enough for every split."""
  words = ("red", "blue", "green", "small", "big")
  prompts = [f"say {a} and {b}" for a in words for b in words for _ in "ab"]
  pair = {"responses": ["yes, so", "no"], "ranks": [1, 2]}
  return {
    "demonstrations": write(
      folder / "d.jsonl",
      [{"prompt": f"{p} {n}", "response": p} for n, p in enumerate(prompts)],
    ),
    "rankings": write(
      folder / "r.jsonl",
      [{"prompt": f"{p} {n}"} | pair for n, p in enumerate(prompts)],
    ),
    "prompts": write(folder / "p.jsonl", [{"prompt": p} for p in prompts]),
    "pretraining": write(
      folder / "t.jsonl", [{"text": " ".join(prompts)} for _ in range(9)]
    ),
  }


def config_of(module, folder, **changes):
  config = module.get_config("files").unlock()
  config.data.update(data_files(folder))
  config.data.update(prompt_length=48, response_length=24, row_length=72)
  config.update_from_flattened_dict(changes)
  return config.lock()


def planned(module, config, folder):
  name = pathlib.Path(module.__file__).name
  default, source = references.load_config(f"{name}:files", EXPERIMENTS)
  overrides = plan.overrides_of(config, default)
  return plan.plan(config, source, epath.Path(folder) / "runs", overrides)


def test_a_checkpoint_decides_model_and_tokenizer_of_the_whole_chain(tmp_path):
  reference = exchange_test.checkpoint(tmp_path / "in")
  config = config_of(ppo_ptx, tmp_path, pretrained=reference)
  stage = planned(ppo_ptx, config, tmp_path)
  stages = {s.name: s for s in plan.in_order(stage)}
  assert "pretrain-files" not in stages
  there = hf_folder.Folder(tmp_path / "in")
  for name in ("sft-files", "rm-files", "select-files", "ppo_ptx-files"):
    found = stages[name].config
    assert found.model.norm == found.reward_model.norm == "rmsnorm"
    assert found.model.vocab_size == exchange_test.SIZE
    assert found.data.tokenizer == reference
  assert stages["dataset-files"].config.data.tokenizer == reference
  first = stages["sft-files"].needs["policy"]
  assert isinstance(first, references.Given)
  assert first.digest == records.read_results(first.folder)["config_digest"]
  there.close()


def test_print_config_shows_what_a_checkpoint_decides(tmp_path, capsys):
  reference = exchange_test.checkpoint(tmp_path / "in")
  config = config_of(ppo_ptx, tmp_path, pretrained=reference)
  source = EXPERIMENTS / "ppo_ptx.py"
  default = ppo_ptx.get_config("files")
  overrides = plan.overrides_of(config, default)
  main.print_config(config, source, epath.Path(tmp_path) / "runs", overrides)
  out, err = capsys.readouterr()
  assert "model.norm = 'rmsnorm'" in out
  assert f"model.vocab_size = {exchange_test.SIZE}" in out
  assert f"data.tokenizer = {reference!r}" in out
  assert err == ""
  assert not (tmp_path / "runs").exists()


def test_another_checkpoint_is_another_digest(tmp_path):
  reference = exchange_test.checkpoint(tmp_path / "in")
  digests = set()
  for _ in range(2):
    config = config_of(sft, tmp_path, pretrained=reference)
    digests.add(planned(sft, config, tmp_path).digest)
    file = hf_folder.Folder(tmp_path / "in").files()[1]
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))
  assert len(digests) == 2


def test_a_need_may_be_a_checkpoint_and_a_reward_another(tmp_path):
  policy = exchange_test.checkpoint(tmp_path / "policy")
  reward = exchange_test.checkpoint(tmp_path / "reward", reward=True)
  needs = {
    "needs.policy": policy,
    "needs.sft": policy,
    "needs.gpt": policy,
    "needs.reward": reward,
  }
  stage = planned(ppo_ptx, config_of(ppo_ptx, tmp_path, **needs), tmp_path)
  assert {s.name for s in plan.in_order(stage)} == {
    "dataset-files",
    "ppo_ptx-files",
  }
  assert stage.config.reward_model.mlp == "swiglu"


def test_the_microworld_is_not_for_pretrained_models(tmp_path):
  reference = exchange_test.checkpoint(tmp_path / "in")
  config = sft.get_config("tiny").unlock()
  config.pretrained = reference
  with pytest.raises(errors.UserError, match="does not know the microworld"):
    plan.plan(config.lock(), EXPERIMENTS / "sft.py", epath.Path(tmp_path), {})


def test_rows_longer_than_the_model_are_refused_before_anything_is_built(
  tmp_path,
):
  reference = exchange_test.checkpoint(tmp_path / "in")
  changes = {"pretrained": reference, "data.row_length": 400}
  config = config_of(sft, tmp_path, **changes)
  with pytest.raises(errors.UserError, match="context_length = 128 is less"):
    planned(sft, config, tmp_path)
  assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_sft_from_a_checkpoint_and_out_again(tmp_path):
  """The command itself: import, train, evaluate, export."""
  reference = exchange_test.checkpoint(tmp_path / "in")
  flags = {
    f"data.{k}": v
    for k, v in data_files(tmp_path).items()
    if k in ("demonstrations", "prompts")
  }
  flags |= {
    "pretrained": reference,
    "data.prompt_length": 48,
    "data.response_length": 24,
    "data.row_length": 72,
    "epochs": 1,
    "evaluation.prompts": 4,
    "evaluation.batch": 4,
    "batch.demonstrations": 8,
    "validation.demonstrations": 4,
    "validate_batches": 1,
    "samples": 2,
  }
  found = subprocess.run(
    [
      *(sys.executable, "-m", "instruct_jax.main"),
      "--config=experiments/sft.py:files",
      f"--workdir={tmp_path / 'runs'}",
      *(f"--config.{name}={value}" for name, value in flags.items()),
    ],
    cwd=ROOT,
    env=os.environ
    | {
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": "1",
      "INSTRUCT_JAX_CACHE": str(tmp_path / "cache"),
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert found.returncode == 0, found.stderr
  run = epath.Path(tmp_path / "runs" / "sft-files")
  results = records.read_results(run)
  assert results["product"]["item"] == "params.policy"
  assert records.read_needs(run)["policy"] == epath.Path(reference)
  exchange.send_out(run, tmp_path / "out")
  before, after = (hf_folder.Folder(tmp_path / name) for name in ("in", "out"))
  assert sorted(after.names) == sorted(before.names)
  assert after.config["model_type"] == "llama"
  moved = [
    name
    for name in before.names
    if before.read(name).tobytes() != after.read(name).tobytes()
  ]
  assert len(moved) > 10  # it has learned


def test_an_evaluation_without_prompts_is_refused_before_anything_is_built(
  tmp_path,
):
  config = config_of(sft, tmp_path, **{"data.prompts": ""})
  with pytest.raises(errors.UserError, match=r"data\.prompts is empty"):
    planned(sft, config, tmp_path)


def test_rows_too_short_to_pack_are_refused_before_anything_is_built():
  config = sft.get_config("test").unlock()
  config.data.packing, config.data.row_length = True, 40
  with pytest.raises(errors.UserError, match="cannot hold a prompt and its"):
    config_checks.check(config.lock())
