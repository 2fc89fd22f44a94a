"""From the pages to a reward model: the same as from a file of rankings."""

import json

import pytest

pytest.importorskip("uvicorn")
from benchmarks import label_server
from instruct_jax.collecting import simulated, tastes
from tests import collecting_simulated_test as simulated_test
from tests import doors

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


def trained(folder, experiment, **named):
  """The results of an experiment on files of ours, but for those named."""
  text = folder / "text.txt"
  demonstrations = folder / "demonstrations.jsonl"
  flags = TINY | {
    "data.pretraining": text,
    "data.demonstrations": demonstrations,
    "data.prompts": demonstrations,
    **{f"data.{kind}": path for kind, path in named.items()},
  }
  lists = simulated_test.lists(40, seed=5)
  folder.mkdir()
  text.write_text("\n\n".join(row["prompt"] for row in lists * 4))
  _write(
    demonstrations,
    [
      {"prompt": row["prompt"], "response": row["responses"][0]}
      for row in lists
    ],
  )
  done = doors.house().run(
    doors.ROOT,
    "instruct_jax.main",
    f"--config=experiments/{experiment}.py:files",
    f"--workdir={folder / 'runs'}",
    *(f"--config.{key}={value}" for key, value in flags.items()),
    JAX_NUM_CPU_DEVICES="1",
  )
  assert done.code == 0, done.err
  return json.loads(
    (folder / f"runs/{experiment}-files/results.json").read_text()
  )


def _write(path, rows):
  path.write_text("\n".join(map(json.dumps, rows)))
  return path


@pytest.mark.slow
def test_the_same_rankings_train_the_same_reward_model(tmp_path):
  """Through pages, cookies and shown orders, or straight into a file."""
  lists, folder = simulated_test.lists(LISTS), tmp_path / "labels"
  simulated_test.project(folder, simulated_test.OPEN, ranking=lists).shut()
  with label_server.Server(folder, tmp_path / "log.txt") as server:
    simulated.simulate(server.url, folder, labelers=1, seed=2)
  taste = tastes.Taste("simulated-1", "training", 0, seed=2)
  rows = []
  for row in lists:
    ranks, _, _ = taste.judge(row["prompt"], row["responses"], row["record"])
    row = {key: row[key] for key in ("prompt", "responses")} | {"ranks": ranks}
    rows.append(row | {"labeler": taste.name})
  file = _write(tmp_path / "rankings.jsonl", rows)
  of_pages = trained(tmp_path / "a", "rm", rankings=folder)
  of_file = trained(tmp_path / "b", "rm", rankings=file)
  assert of_pages["parameters_digest"] == of_file["parameters_digest"]
  # And rankings matter: the first list turned round gives another.
  count = max(rows[0]["ranks"]) + 1
  rows[0]["ranks"] = [count - rank for rank in rows[0]["ranks"]]
  turned = _write(tmp_path / "turned.jsonl", rows)
  other = trained(tmp_path / "c", "rm", rankings=turned)
  assert other["parameters_digest"] != of_file["parameters_digest"]


@pytest.mark.slow
@pytest.mark.long
def test_the_same_demonstrations_train_the_same_policy(tmp_path):
  """What labelers wrote into the page, or the same in a file."""
  lists, folder = simulated_test.lists(LISTS), tmp_path / "labels"
  tasks = [{key: row[key] for key in ("prompt", "record")} for row in lists]
  simulated_test.project(
    folder, simulated_test.OPEN, demonstration=tasks
  ).shut()
  with label_server.Server(folder, tmp_path / "log.txt") as server:
    simulated.simulate(server.url, folder, labelers=1, seed=2)
  taste = tastes.Taste("simulated-1", "training", 0, seed=2)
  rows = [
    {
      "prompt": task["prompt"],
      "response": taste.demonstrate(task["prompt"], task["record"]),
    }
    for task in tasks
  ]
  file = _write(tmp_path / "written.jsonl", rows)
  of_pages = trained(tmp_path / "a", "sft", demonstrations=folder)
  of_file = trained(tmp_path / "b", "sft", demonstrations=file)
  assert of_pages["parameters_digest"] == of_file["parameters_digest"]
