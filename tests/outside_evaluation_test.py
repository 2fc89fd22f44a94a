"""An evaluation from a folder of one's own, run through `main`."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments import pretrain
from instruct_jax.base import errors
from instruct_jax.runs import config_checks, suites

ROOT = pathlib.Path(__file__).parent.parent
EVALUATION = '''
from instruct_jax.evals import bench as bench_lib

def evaluate_politeness(bench):
  """politeness/SUBJECT: the share of responses with a "please"."""
  rows = [
    bench_lib.row(
      ["please" in text for text in bench.ask(s, bench.prompts).texts],
      bench.clusters,
      bounds=(0.0, 1.0),
      subject=s.name,
      metric=f"politeness/{s.name}",
    )
    for s in bench.subjects
  ]
  return bench_lib.findings("politeness", rows)
'''
PATH = "town_evaluations:evaluate_politeness"
TINY = {
  "model.layers": 1,
  "model.width": 16,
  "model.heads": 1,
  "model.kv_heads": 1,
  "model.head_size": 16,
  "model.mlp_width": 16,
  "data.prompt_length": 16,
  "data.response_length": 8,
  "data.row_length": 32,
  "data.tokenizer": "byte",
  "data.template": "{prompt}",
  "batch.pretraining": 2,
  "validation.pretraining": 2,
  "epochs": 0,
  "steps": 1,
  "samples": 0,
  "evaluation.prompts": 4,
  "evaluation.batch": 4,
}


def run(folder, **changes):
  """Pretraining on a few lines in `folder`; the finished process."""
  text = "\n\n".join(f"town {n} has a street and a square ." for n in range(60))
  (folder / "town.txt").write_text(text)
  lines = [
    {"prompt": f"where is {n} ?", "split": "test" if n < 4 else "train"}
    for n in range(12)
  ]
  lines.append({"prompt": "who is there ?", "split": "validation"})
  (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
  changes = TINY | {
    "data.pretraining": folder / "town.txt",
    "data.prompts": folder / "prompts.jsonl",
    **changes,
  }
  return subprocess.run(
    [
      *(sys.executable, "-m", "instruct_jax.main"),
      *("--config=experiments/pretrain.py:files", f"--workdir={folder}/runs"),
      *(f"--config.{key}={value}" for key, value in changes.items()),
    ],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(folder), "JAX_NUM_CPU_DEVICES": "1"},
    capture_output=True,
    text=True,
    timeout=600,
  )


@pytest.mark.parametrize(
  ("extra", "suite", "message"),
  [
    ("town_evaluations:evaluate", "policies", "there is no module"),
    ("json:dump", "none", r"need config\.evaluation\.suite=policies"),
    ("json:dump", "policies", ""),
  ],
)
def test_a_wrong_path_is_told_before_anything_is_built(extra, suite, message):
  config = pretrain.get_config("test").unlock()
  config.evaluation.extra, config.evaluation.suite = extra, suite
  if not message:
    config_checks.check(config)
    assert suites.evaluations(config)[-1] == extra
    return
  with pytest.raises(errors.UserError, match=message):
    config_checks.check(config)


def test_it_stands_in_results_table_and_report(tmp_path):
  folder = tmp_path
  (folder / "town_evaluations.py").write_text(EVALUATION)
  done = run(folder, **{"evaluation.extra": PATH})
  assert done.returncode == 0, done.stderr
  run_folder = folder / "runs" / "pretrain-files"
  results = json.loads((run_folder / "results.json").read_text())
  assert results["evaluations"][PATH] == "measured"
  assert results["evaluations"]["likert"] == "needs judge"
  assert results["evaluations"]["loss"] == "needs demonstrations"
  assert 0 <= results["metrics"]["politeness/gpt"] <= 1
  rows = results["tables"]["politeness"]
  assert [row["subject"] for row in rows] == ["gpt", "prompted_gpt"]
  assert [row["n"] for row in rows] == [4, 4]
  assert "Politeness" in (run_folder / "report.html").read_text()
  assert "politeness" in done.stdout
