"""Runs as a report finds them on disk: what a chain left behind, made up."""

import json

PROMPT = "what <b>job</b> does ann have ?"


def write(folder, *, results=None, log=(), samples=(), config=None):
  folder.mkdir(parents=True)
  config = config or {"experiment": folder.name, "variant": "tiny"}
  (folder / "config.json").write_text(json.dumps({"config": config}))
  if results is not None:
    (folder / "results.json").write_text(json.dumps(results))
  for name, lines in (("metrics", log), ("samples", samples)):
    if lines:
      text = "".join(json.dumps(line) + "\n" for line in lines)
      (folder / f"{name}.jsonl").write_text(text)
  return folder


def results_of(experiment, **more):
  return {
    "experiment": experiment,
    "variant": "tiny",
    "seed": 3,
    "steps": 120,
    "seconds": {"wall": 75.25, "compile": 9.5},
    "peak_memory_bytes": 1_500_000_000,
    "config_digest": "c0ffee",
    "parameters_digest": f"digest-of-{experiment}",
    "metrics": {"some/metric": 0.123},
    **more,
  }


def interval(value, **labels):
  bounds = {"low": value - 0.0321, "high": value + 0.0321}
  return {**labels, "value": value, **bounds, "n": 512, "clusters": 301}


TABLES = {
  "preference": [
    interval(
      value,
      subject=subject,
      baseline=baseline,
      labelers=group,
      metric=f"preference/{subject}_over_{baseline}/{group}",
    )
    for group in ("training", "held_out")
    for subject, baseline, value in (
      ("gpt", "sft", 0.1231),
      ("sft", "gpt", 0.8769),
      ("ppo_ptx", "sft", 0.6151),
      ("sft", "ppo_ptx", 0.3849),
    )
  ],
  "likert": [
    interval(2.02, subject="gpt", metric="likert/gpt"),
    interval(4.21, subject="sft", metric="likert/sft"),
    interval(5.43, subject="ppo_ptx", metric="likert/ppo_ptx"),
  ],
  "nlp": [
    interval(0.777, subject="sft", task="mean", metric="nlp/mean/sft"),
    interval(0.555, subject="ppo_ptx", task="mean", metric="nlp/mean/ppo_ptx"),
  ],
  "kl": [
    interval(0.0, subject="sft", per_token=0.0, metric="kl/sft"),
    interval(3.25, subject="ppo_ptx", per_token=0.4, metric="kl/ppo_ptx"),
  ],
  "toxicity": [
    interval(0.2, subject="sft", prompt="none", metric="toxicity/none/sft"),
    interval(0.1, subject="ppo_ptx", prompt="none", metric="toxicity/none/p"),
  ],
  "departures": [{"key": "kl_coef", "paper": 0.02, "here": 0.1}],
  "made_up_by_a_user": [interval(0.5, subject="sft", color="red")],
}
SUBJECTS = ("gpt", "prompted_gpt", "sft", "ppo_ptx")
WIDE = {  # as many rows and columns as there are
  "metadata": [
    interval(0.2 + 0.15 * n, subject=subject, flag=flag, metric=f"{flag}/{n}")
    for flag in ("fails_instruction", "satisfies_constraint", "hallucination")
    for n, subject in enumerate(SUBJECTS)
  ],
  "truthfulness": [
    interval(
      0.9 - 0.2 * n,
      subject=subject,
      prompt=kind,
      measure=measure,
      metric=f"{kind}_{measure}/{n}",
    )
    for kind in ("qa", "instruction_qa")
    for measure in ("truthful_informative", "popular_falsehood")
    for n, subject in enumerate(SUBJECTS)
  ],
}
PROVENANCE = {
  "date": "2026-11-21T17:30:14+00:00",
  "command": "python -m instruct_jax.main --config=a.py --workdir=/"
  + "long/" * 40,
  "commit": "abc123",
  "changed": True,
  "python": "3.11.7",
  "packages": {"jax": "0.10.2"},
  "device": "TPU v5",
  "devices": 1,
  "cores": 2,
}
CALIBRATION = [
  interval(p - 0.01, labelers=group, bin="70–75 %", predicted=p)
  for group in ("training", "held_out")
  for p in (0.72, 0.94)
]
REWARD = [
  interval(
    0.7011,
    labelers=group,
    predictor=predictor,
    metric=f"reward/{measure}/{group}",
  )
  for group in ("training", "held_out")
  for predictor, measure in (
    ("reward", "accuracy"),
    ("reward", "log_loss"),
    ("longer", "accuracy_longer"),
  )
]


def make_chain(tmp_path):
  """A finished chain with everything that a report can show."""
  pretrain = write(
    tmp_path / "pretrain",
    results=results_of("pretrain"),
    log=[
      {"step": s, "pretraining/loss": 5 / s, "validation/pretraining/loss": 5.1}
      for s in range(1, 1200)
    ],
  )
  rm = write(
    tmp_path / "rm",
    results=results_of(
      "rm",
      tables={"reward": REWARD, "calibration": CALIBRATION},
      metrics={"reward/calibration_error/held_out": 0.044},
    ),
    log=[{"step": 1, "rankings/loss": "NaN", "rankings/accuracy": 0.5}],
  )
  select = write(
    tmp_path / "select",
    results=results_of(
      "select", metrics={"select/score/32": 0.1, "select/score/64": 0.4}
    ),
  )
  names = (
    *("objective/score", "objective/kl", "policy/entropy", "ptx/loss"),
    "judge/likert",
  )
  ppo = write(
    tmp_path / "ppo_ptx",
    results=results_of("ppo_ptx", tables=TABLES | WIDE, provenance=PROVENANCE),
    config={
      "experiment": "ppo_ptx",
      "variant": "tiny",
      "data": {"source": "microworld"},
    },
    log=[
      {"step": s, "optimizer/policy_learning_rate": 1e-4 / s}
      | dict.fromkeys(names, 1.0 / s)
      for s in range(1, 14)
    ],
  )
  with (ppo / "responses.jsonl").open("w") as file:
    for n in range(100):
      file.write(json.dumps(record(n)) + "\n")
    file.write('{"prompt": "half a li')
  return [pretrain, rm, select, ppo]


CASES = ("generation", "chat", "open_qa", "extract")


def record(n):
  """Of every three prompts PPO-ptx wins one, SFT one, and one is a tie."""
  prompt = PROMPT if n == 0 else f"prompt number {n}"
  prompt += " " + "y" * 200 if n == 1 else ""  # has no place to be broken at
  won = {0: 0.8, 1: 0.2, 2: 0.5}[n % 3]
  answer = {"ended": True, "likert": 6, "score": 0.9}
  said = {
    "sft": answer
    | {"text": "ann is <i>a nurse", "preferred": {"ppo_ptx": 1 - won}},
    "ppo_ptx": answer
    | {"text": f"text {n}", "reward": 1.234, "preferred": {"sft": won}},
  }
  return {"prompt": prompt, "responses": said, "use_case": CASES[n % 4]}
