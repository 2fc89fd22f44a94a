"""From the pages to a reward model: the same as from a file of rankings."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("uvicorn")
from benchmarks import label_server
from instruct_jax.collecting import simulated, tastes
from tests import collecting_simulated_test as simulated_test

ROOT = pathlib.Path(__file__).parents[1]
LISTS = 80
SIZE = {
  "layers": 1,
  "width": 16,
  "heads": 1,
  "kv_heads": 1,
  "head_size": 16,
  "mlp_width": 16,
}
TINY = {
  **{
    f"{m}.{key}": n
    for m in ("model", "reward_model")
    for key, n in SIZE.items()
  },
  "data.prompt_length": 40,
  "data.response_length": 24,
  "data.row_length": 64,
  "data.tokenizer": "word",
  "data.template": "{prompt}",
  "evaluation.prompts": 8,
  "evaluation.batch": 8,
  "needs.policy": "pretrain.py:files",
}


def trained(folder, rankings):
  """The results of a reward model of these rankings, and of its data."""
  text = folder / "text.txt"
  demonstrations = folder / "demonstrations.jsonl"
  flags = TINY | {
    "data.pretraining": text,
    "data.demonstrations": demonstrations,
    "data.prompts": demonstrations,
    "data.rankings": rankings,
  }
  lists = simulated_test.lists(40, seed=5)
  text.write_text("\n\n".join(row["prompt"] for row in lists * 4))
  demonstrations.write_text(
    "\n".join(
      json.dumps({"prompt": row["prompt"], "response": row["responses"][0]})
      for row in lists
    )
  )
  done = subprocess.run(
    [
      *(sys.executable, "-m", "instruct_jax.main"),
      *("--config=experiments/rm.py:files", f"--workdir={folder / 'runs'}"),
      *(f"--config.{key}={value}" for key, value in flags.items()),
    ],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
    capture_output=True,
    text=True,
    timeout=900,
  )
  assert done.returncode == 0, done.stderr
  return json.loads((folder / "runs/rm-files/results.json").read_text())


@pytest.mark.slow
def test_the_same_rankings_train_the_same_reward_model(tmp_path):
  """Through pages, cookies and shown orders, or straight into a file."""
  lists, folder = simulated_test.lists(LISTS), tmp_path / "labels"
  simulated_test.project(folder, simulated_test.OPEN, ranking=lists).shut()
  with label_server.Server(folder, tmp_path / "log.txt") as server:
    simulated.simulate(server.url, folder, labelers=1, seed=2)
  taste = tastes.Taste("simulated-1", "training", 0, seed=2)
  lines = []
  for row in lists:
    ranks, _, _ = taste.judge(row["prompt"], row["responses"], row["record"])
    row = {key: row[key] for key in ("prompt", "responses")} | {"ranks": ranks}
    lines.append(json.dumps(row | {"labeler": taste.name}))
  file = tmp_path / "rankings.jsonl"
  file.write_text("\n".join(lines))
  (tmp_path / "a").mkdir()
  (tmp_path / "b").mkdir()
  of_pages = trained(tmp_path / "a", folder)
  of_file = trained(tmp_path / "b", file)
  assert of_pages["parameters_digest"] == of_file["parameters_digest"]
  # And rankings matter: the first list turned round gives another.
  first = json.loads(lines[0])
  count = max(first["ranks"]) + 1
  first["ranks"] = [count - rank for rank in first["ranks"]]
  turned = "\n".join([json.dumps(first), *lines[1:]])
  (tmp_path / "turned.jsonl").write_text(turned)
  (tmp_path / "c").mkdir()
  other = trained(tmp_path / "c", tmp_path / "turned.jsonl")
  assert other["parameters_digest"] != of_file["parameters_digest"]
