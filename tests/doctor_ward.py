"""Runs that are sabotaged in one known way each, and healthy ones.

  python -m tests.doctor_ward --base=BASE --work=WORK NAME ...

trains what is named (all: `--all`), from the finished stages of `:tiny` in
BASE (dataset-tiny, pretrain-tiny, sft-tiny, rankings-tiny, rm-tiny,
select-tiny), in folders WORK/NAME, each in a process of its own, and records
in tests/doctor_runs/NAME.json.gz what its folders hold that the doctor reads.
`unpack` makes folders of a record. About 40 s of one core each. `--runs=RUNS`
records the healthy ones among the finished `:tiny` runs in RUNS.
"""

import argparse
import base64
import contextlib
import gzip
import json
import pathlib
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

RECORDS = pathlib.Path(__file__).parent / "doctor_runs"
EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"
KEPT = ("config.json", "metrics.jsonl", "samples.jsonl", "results.json")
STAGES = {  # what an experiment needs, and where it is in BASE
  "data": "dataset",
  "gpt": "pretrain",
  "sft": "select",
  "policy": "select",
  "reward": "rm",
  "rankings": "rankings",
}
# Fewer episodes than 512, and no evaluation of what is known already.
SMALL = {
  "batch.prompts": 256,
  "validation.prompts": 256,
  "evaluation.suite": "none",
}
GROUPS = SMALL | {"batch.prompts": 32, "validation.prompts": 32}
PTX = SMALL | {"batch.pretraining": 96, "validation.pretraining": 96}
NO_SUITE = {"evaluation.suite": "none"}
Patches = Callable[[], contextlib.AbstractContextManager]


# What a config cannot break.
def _minibatches(change: Callable[[dict], dict]) -> Patches:
  """PPO's minibatches, of which the part 'policy' is changed."""

  def patch():
    from instruct_jax.algorithms import ppo

    made = ppo.minibatches

    def changed(*arguments):
      parts, metrics = made(*arguments)
      return parts | {"policy": change(parts["policy"])}, metrics

    return mock.patch.object(ppo, "minibatches", changed)

  return patch


def _shifted(rows: dict) -> dict:
  """The stored log-probabilities are those of the token before."""
  import jax.numpy as jnp

  return rows | {"old_logprobs": jnp.roll(rows["old_logprobs"], 1, axis=-1)}


def _scores(change: Callable[[Any], Any]) -> Patches:
  """The reward model's scores, changed."""

  def patch():
    from instruct_jax.inference import rewards

    made = rewards.TERMS["model"]
    changed = {"model": lambda *arguments: change(made(*arguments))}
    return mock.patch.dict(rewards.TERMS, changed)

  return patch


def _nan_at(steps: Callable[[int], bool]) -> Patches:
  """No number is a response's score, where `steps` says so of the call."""
  count = [0]

  def change(scores):
    count[0] += 1
    return scores + (float("nan") if steps(count[0]) else 0.0)

  return _scores(change)


def _hot(temperature: float) -> Patches:
  """Samples at another temperature than that of the log-probabilities."""

  def patch():
    from instruct_jax.inference import respond

    made = respond.policy_of

    def hot(*arguments, **kwargs):
      if "temperature" in kwargs:
        kwargs["temperature"] = temperature
      return made(*arguments, **kwargs)

    return mock.patch.object(respond, "policy_of", hot)

  return patch


def _certain(coefficient: float) -> Patches:
  """Pays for the policy's own log-probability, too: a bonus for entropy with
  the wrong sign."""

  def patch():
    from instruct_jax.algorithms import iteration

    made = iteration.shaped_scores

    def shaped(ctx, scored):
      certain = scored.logprobs.sum(axis=1)  # 0 at what is no token
      return made(ctx, scored) + coefficient * certain

    return mock.patch.object(iteration, "shaped_scores", shaped)

  return patch


def _against_text() -> contextlib.AbstractContextManager:
  """The term of pretraining text has the wrong sign."""
  from instruct_jax.algorithms import iteration

  made = iteration.ptx

  def ptx(*arguments):
    total, weight, coefficient = made(*arguments)
    return total, weight, -coefficient

  return mock.patch.object(iteration, "ptx", ptx)


def longer(prompts: list[str], responses: list[str]) -> list[float]:
  """A reward that pays for words."""
  del prompts
  return [float(len(response.split())) for response in responses]


def _copied_test_prompts(base: pathlib.Path, work: pathlib.Path) -> None:
  """A data set a third of whose test prompts are training prompts, too."""
  from instruct_jax.worlds.microworld import builder, prompts

  made = prompts.sample

  def sample(rng, split, count):
    rows = list(made(rng, split, count))
    if split == "test":
      seen = random.Random(f"{7} prompts train")
      rows[: count // 3] = list(made(seen, "train", count // 3))
    return iter(rows)

  from experiments import dataset
  from instruct_jax.worlds.microworld import world

  del base
  folder = work / "dataset-leak"
  folder.mkdir(parents=True, exist_ok=True)
  config = dataset.get_config("test")
  with mock.patch.object(builder.prompts, "sample", sample):
    world.build(config, folder)
  _record(folder, config)


def _record(folder: pathlib.Path, config: Any) -> None:
  """Makes a folder a finished run."""
  written = {"digest": "", "needs": {}, "config": config.to_dict()}
  (folder / "config.json").write_text(json.dumps(written, default=list))
  results = '{"metrics": {}, "config_digest": "leak"}'
  (folder / "results.json").write_text(results)


def _rankings(change: Callable[[list[dict]], list[dict]], name: str):
  """A copy of the rankings with other training rows."""

  def make(base: pathlib.Path, work: pathlib.Path) -> None:
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base / "rankings-tiny", folder)
    path = folder / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))

  return make


def _at_random(rows: list[dict]) -> list[dict]:
  rng = random.Random(0)
  return [row | {"ranks": rng.sample(row["ranks"], len(row["ranks"]))}
          for row in rows]  # fmt: skip


def _few(rows: list[dict]) -> list[dict]:
  return rows[:64]


# {name: (finding, experiment, changes, patch or None, made before or None,
# what else it needs)}; the finding of a healthy run is ''.
SABOTAGED: dict[str, dict[str, Any]] = {
  "logprobs_off_by_one": {
    "finding": "ratio_off_one", "experiment": "ppo", "changes": SMALL,
    "patch": _minibatches(_shifted)},
  "sampled_hot": {
    "finding": "kl_negative", "experiment": "ppo", "changes": SMALL,
    "patch": _hot(1.6)},
  "kl_free_and_fast": {
    "finding": "kl_exploding", "experiment": "ppo",
    "changes": SMALL | {"rl.kl_coef": 0.0,
                        "optimizer.policy.learning_rate": 4e-3}},
  "rate_hundredfold": {
    "finding": "kl_exploding", "experiment": "grpo",
    "changes": GROUPS | {"optimizer.policy.learning_rate": 5e-2}},
  "value_network_frozen": {
    "finding": "value_not_explaining", "experiment": "ppo",
    "changes": SMALL | {"optimizer.value.learning_rate": 1e-9}},
  "pays_for_certainty": {
    "finding": "entropy_collapse", "experiment": "ppo",
    "changes": SMALL | {"optimizer.policy.learning_rate": 1e-3},
    "patch": _certain(1.0)},
  "pays_for_length": {
    "finding": "length_drift", "experiment": "ppo",
    "changes": SMALL | {"reward.function.path": "tests.doctor_ward:longer",
                        "reward.function.weight": 0.5}},
  "cut_short": {
    "finding": "end_missing", "experiment": "ppo",
    "changes": SMALL | {"rl.missing_end": "none", "data.response_length": 5}},
  "reward_sign": {
    "finding": "reward_up_judge_down", "experiment": "ppo",
    "changes": SMALL | {"rl.kl_coef": 0.5},
    "patch": _scores(lambda scores: -scores)},
  "reward_sign_hardly_held": {
    "finding": "duplicated_responses", "experiment": "ppo", "changes": SMALL,
    "patch": _scores(lambda scores: -scores)},
  "clip_tiny": {
    "finding": "everything_clipped", "experiment": "ppo",
    "changes": SMALL | {"rl.clip": 1e-4}},
  "reward_off_centre": {
    "finding": "reward_not_centred", "experiment": "ppo", "changes": SMALL,
    "patch": _scores(lambda scores: scores + 4.0)},
  "scores_not_a_number": {
    "finding": "diverged", "experiment": "ppo", "changes": SMALL,
    "patch": _nan_at(lambda call: call > 5)},
  "rate_without_effect": {
    "finding": "nothing_moves", "experiment": "ppo",
    "changes": SMALL | {"optimizer.policy.learning_rate": 1e-8}},
  "text_sign": {
    "finding": "ptx_forgetting", "experiment": "ppo_ptx", "changes": PTX,
    "patch": _against_text},
  "reward_constant": {
    "finding": "advantages_zero", "experiment": "grpo",
    "changes": GROUPS | {"reward.model.weight": 0.0,
                         "reward.words.weight": 1.0,
                         "reward.words.words": ("qwertz",)}},
  "ranks_shuffled": {
    "finding": "reward_model_at_chance", "experiment": "rm",
    "changes": NO_SUITE, "before": _rankings(_at_random, "rankings-shuffled"),
    "needs": {"rankings": "rankings-shuffled"}},
  "rankings_too_few": {
    "finding": "reward_model_overfits", "experiment": "rm",
    "changes": NO_SUITE | {"epochs": 25},
    "before": _rankings(_few, "rankings-few"),
    "needs": {"rankings": "rankings-few"}},
  "sft_rate_without_effect": {
    "finding": "not_learned", "experiment": "sft",
    "changes": {"optimizer.policy.learning_rate": 1e-7}},
  "test_prompts_copied": {
    "finding": "data_leak", "experiment": "pretrain", "changes": NO_SUITE,
    "before": _copied_test_prompts, "needs": {"data": "dataset-leak"}},
}  # fmt: skip
HEALTHY = {  # as plain `:tiny` runs lie in a folder of finished ones
  f"healthy_{name.replace('-tiny', '').replace('-', '_')}": name
  for name in (
    *("ppo-tiny", "ppo-tiny-seed1", "ppo-tiny-seed2"),
    *("ppo_ptx-tiny", "ppo_ptx-tiny-seed1", "iterated-tiny-seed2"),
    *("rloo-tiny", "grpo-tiny-seed1", "grpo-tiny-seed2"),
    *("dpo-tiny", "dpo-tiny-seed2", "best_of_n-tiny"),
    *("rm-tiny", "rm-tiny-seed1", "pretrain-tiny"),
    *("sft-tiny", "sft-tiny-seed1"),
  )
}
# Half of a batch, at the time of those that are sabotaged.
ANEW = {
  "healthy_ppo_anew": {"experiment": "ppo", "changes": SMALL},
  "healthy_sft_anew": {"experiment": "sft", "changes": {}},
}
RUNS = SABOTAGED | ANEW


def make(
  name: str,
  base: pathlib.Path,
  work: pathlib.Path,
  *,
  variant: str = "tiny",
  changes: dict[str, Any] | None = None,
) -> pathlib.Path:
  """Trains a run in `work`; its folder. One that diverges ends here, too.

  BASE holds the stages of the variant; `changes` come after the run's own.
  """
  from etils import epath

  from instruct_jax.base import compilation, errors
  from instruct_jax.runs import build, plan, references

  given = RUNS[name]
  work.mkdir(parents=True, exist_ok=True)
  if before := given.get("before"):
    before(base, work)
  reference = f"{given['experiment']}.py:{variant}"
  default, source = references.load_config(reference, epath.Path(EXPERIMENTS))
  config = default.copy_and_resolve_references()
  config.update_from_flattened_dict(given["changes"] | (changes or {}))
  for need in config.needs:
    stage = STAGES.get(need, "pretrain")
    if given["experiment"] == "sft" and need == "policy":
      stage = "pretrain"
    if given["experiment"] == "rm" and need == "policy":
      stage = "sft"
    config.needs[need] = str(base / f"{stage}-{variant}")
  for need, folder in given.get("needs", {}).items():
    config.needs[need] = str(work / folder)
  compilation.enable_cache()
  overrides = plan.overrides_of(config, default)
  stage = plan.plan(config, source, epath.Path(work), overrides)
  with given.get("patch", contextlib.nullcontext)():
    try:
      build.build(stage)
    except errors.Diverged as error:
      print(f"{name}: {error}")
  return pathlib.Path(stage.folder)


def record(name: str, folder: pathlib.Path) -> pathlib.Path:
  """Writes down what the doctor reads of a run, and of the data it leaks."""
  files = {f"{name}/{path}": content for path, content in _files(folder)}
  config = json.loads(files[f"{name}/config.json"])
  kept = {}
  if name == "test_prompts_copied":
    kept = {"data": "../dataset-leak"}
    leaking = folder.parent / "dataset-leak"
    files |= {f"dataset-leak/{path}": x for path, x in _files(leaking)}
  config["needs"], config["needs_digests"] = kept, {}
  config["config"].pop("needs", None)
  config["config"].pop("reward_model", None)
  files[f"{name}/config.json"] = json.dumps(config)
  path = RECORDS / f"{name}.json.gz"
  path.parent.mkdir(exist_ok=True)
  with gzip.GzipFile(path, "wb", mtime=0) as file:
    file.write(json.dumps(files, sort_keys=True).encode())
  return path


def _files(folder: pathlib.Path) -> Iterator[tuple[str, str]]:
  for name in KEPT:
    if (folder / name).exists():
      yield name, (folder / name).read_text()
  for path in sorted(folder.glob("microworld/*/*/*")):
    if "pretraining" not in path.parts:
      content = base64.b85encode(path.read_bytes()).decode()
      yield f"{path.relative_to(folder)}.b85", content


def unpack(name: str, root: pathlib.Path) -> pathlib.Path:
  """Makes the folders of a record under `root`; the run's."""
  with gzip.open(RECORDS / f"{name}.json.gz") as file:
    files = json.loads(file.read())
  for place, content in files.items():
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".b85":
      path.with_suffix("").write_bytes(base64.b85decode(content))
    else:
      path.write_text(content)
  return root / name


def main() -> None:
  """Makes and records what is named."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("names", nargs="*")
  parser.add_argument("--base", type=pathlib.Path)
  parser.add_argument("--work", type=pathlib.Path)
  parser.add_argument("--all", action="store_true")
  parser.add_argument("--runs", type=pathlib.Path)
  given = parser.parse_args()
  for name, folder in HEALTHY.items() if given.runs else ():
    print(record(name, given.runs / folder))
  names = list(RUNS) if given.all else given.names
  if len(names) == 1:
    folder = make(names[0], given.base.resolve(), given.work.resolve())
    print(record(names[0], folder))
    return
  for name in names:
    work = given.work / name
    command = [sys.executable, "-m", "tests.doctor_ward", name]
    subprocess.run([*command, f"--base={given.base}", f"--work={work}"])


if __name__ == "__main__":
  main()
