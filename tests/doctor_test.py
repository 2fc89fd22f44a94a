"""The doctor names what is wrong with a run, and accuses no healthy one."""

import json
import subprocess
import sys

import pytest

from instruct_jax.base import errors
from instruct_jax.doctor import examine, record
from instruct_jax.report import page
from tests import built, doctor_ward, report_toys, tiers
from tests.run_folders import write_json

RECORDED = {
  path.name.split(".")[0] for path in doctor_ward.RECORDS.glob("*.json.gz")
}


def names(folder):
  return [each.name for each in examine.run(folder).findings]


@pytest.mark.parametrize("name", sorted(doctor_ward.SABOTAGED))
def test_a_sabotaged_run_is_named_and_nothing_else(name, tmp_path):
  folder = doctor_ward.unpack(name, tmp_path)
  assert names(folder) == [doctor_ward.SABOTAGED[name]["finding"]]


@pytest.mark.parametrize(
  "name", sorted({**doctor_ward.HEALTHY, **doctor_ward.ANEW})
)
def test_a_healthy_run_is_not_accused(name, tmp_path):
  assert names(doctor_ward.unpack(name, tmp_path)) == []


def test_the_ward_is_large_enough_and_all_of_it_is_there():
  assert len(doctor_ward.SABOTAGED) >= 15
  assert len(doctor_ward.HEALTHY) >= 10
  assert {*doctor_ward.RUNS, *doctor_ward.HEALTHY} == RECORDED
  size = sum(path.stat().st_size for path in doctor_ward.RECORDS.iterdir())
  assert size < 1.5e6


def toy(folder, rows, *, config=None, results=None, samples=()):
  steps = [{"step": n, **row} for n, row in enumerate(rows, start=1)]
  return report_toys.write(
    folder,
    log=steps,
    results=results,
    samples=samples,
    config={"job": "train", "algorithm": "ppo"} | (config or {}),
  )


# A metric over ten steps on this side of its limit and beyond it.
LIMITS = {
  "ratio_off_one": ("policy/ratio_first_minibatch", 1.009, 1.011),
  "kl_exploding": ("objective/kl_per_token", 0.99, 1.01),
  "everything_clipped": ("policy/clip_fraction", 0.24, 0.26),
  "nothing_moves": ("objective/kl_per_token", 0.0011, 0.0009),
  "value_not_explaining": ("value/explained_variance", 0.21, 0.19),
  # Of groups of two, of which half are equal by chance.
  "advantages_zero": ("groups/equal_scores", 0.74, 0.76),
  "end_missing": ("response/end_rate", 0.76, 0.74),
  "reward_not_centred": ("reward/model", 1.9, -2.1),
  "preferences_not_learned": ("validation/rewards/accuracy", 0.56, 0.54),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_where_it_is_said_to_be(name, tmp_path):
  metric, right, wrong = LIMITS[name]
  for value, found in ((right, []), (wrong, [name])):
    folder = toy(tmp_path / str(value), [{metric: value}] * 10)
    assert names(folder) == found


@pytest.mark.parametrize(
  ("name", "metric", "right", "wrong"),
  [  # first five steps, then five more
    ("entropy_collapse", "policy/entropy", (1.0, 0.46), (1.0, 0.44)),
    ("ptx_forgetting", "ptx/loss", (1.0, 1.09), (1.0, 1.11)),
    ("length_drift", "response/length", (10.0, 14.9), (10.0, 15.1)),
    ("length_drift", "response/length", (15.0, 10.1), (15.0, 9.9)),
  ],
)
def test_a_change_is_from_early_to_late(name, metric, right, wrong, tmp_path):
  for number, ((early, late), found) in enumerate(
    ((right, []), (wrong, [name]))
  ):
    rows = [{metric: early}] * 5 + [{metric: late}] * 5
    assert names(toy(tmp_path / str(number), rows)) == found


def test_how_negative_a_kl_may_be_depends_on_the_episodes(tmp_path):
  """Three deviations of the mean of n: 18 / n nats, at least 0.1."""
  for episodes, kl, found in (
    (32, -0.55, []),
    (32, -0.57, ["kl_negative"]),
    (512, -0.09, []),
    (512, -0.11, ["kl_negative"]),
  ):
    rows = [{"objective/kl": 0.0, "count/episodes": episodes}] * 2
    rows += [{"objective/kl": kl, "count/episodes": episodes}]
    assert names(toy(tmp_path / f"{episodes}{kl}", rows)) == found


def test_what_follows_from_a_finding_is_told_with_it(tmp_path):
  rows = [{"objective/kl_per_token": 3.0, "policy/clip_fraction": 0.9}] * 8
  (found,) = examine.run(toy(tmp_path / "run", rows)).findings
  assert found.name == "kl_exploding"
  assert found.evidence.startswith("run: objective/kl_per_token 3 ")
  assert "With it, everything_clipped: policy/clip_fraction 0.9" in (
    found.evidence
  )


@pytest.mark.parametrize(
  ("kl_at", "text_at", "found"),
  [
    (3, 6, "kl_exploding"),
    (6, 3, "ptx_forgetting"),
    (4, 4, "kl_exploding"),
  ],
)
def test_of_two_that_explain_each_other_the_first_does(
  kl_at, text_at, found, tmp_path
):
  rows = [
    {"objective/kl_per_token": 2.0 * (n >= kl_at),
     "ptx/loss": 1.0 + (n >= text_at)}
    for n in range(9)
  ]  # fmt: skip
  (only,) = examine.run(toy(tmp_path / "run", rows)).findings
  assert only.name == found
  assert "With it, " in only.evidence


def test_few_steps_have_no_end(tmp_path):
  """Four steps, as `:test` has, and an untrained value network."""
  rows = [{"value/explained_variance": -1.0, "objective/kl_per_token": 0.0}]
  assert names(toy(tmp_path / "short", rows * 4)) == []
  assert names(toy(tmp_path / "long", rows * 8)) == [
    "value_not_explaining",
    "nothing_moves",
  ]


def test_over_optimisation_needs_a_judge(tmp_path):
  rising = [{"objective/score": 0.1 * n} for n in range(9)]
  falling = [row | {"judge/score": 0.8 - 0.05 * n}
             for n, row in enumerate(rising)]  # fmt: skip
  assert names(toy(tmp_path / "alone", rising)) == []
  assert names(toy(tmp_path / "judged", falling)) == ["reward_up_judge_down"]


def test_over_optimisation_in_the_evaluation(tmp_path):
  """The reward prefers it in 66 %, labelers in 45 to 49 %, or in 47 to 51 %."""
  subjects = {"sft": {"run": "sft"}, "ppo": {"run": ""}}
  config = {"evaluation": {"baseline": "sft", "subjects": subjects}}
  for high, found in ((0.49, ["reward_up_judge_down"]), (0.51, [])):
    row = {"subject": "ppo", "baseline": "sft", "labelers": "held_out",
           "value": high - 0.02, "low": high - 0.04, "high": high}  # fmt: skip
    results = {"metrics": {"score_wins/ppo_over_sft": 0.66},
               "tables": {"preference": [row]}}  # fmt: skip
    folder = toy(tmp_path / str(high), [], config=config, results=results)
    assert names(folder) == found


def test_updates_that_are_skipped_are_counted_by_minibatch(tmp_path):
  """Of 10 steps of 8 updates 0 or 1: 0 or 1.25 %."""
  for skipped, found in ((0, []), (1, ["updates_skipped"])):
    rows = [{"count/skipped": 0}] * 9 + [{"count/skipped": skipped}]
    folder = tmp_path / str(skipped)
    toy(folder, rows, config={"rl": {"minibatches": 8, "inner_epochs": 1}},
        results={"metrics": {}})  # fmt: skip
    assert names(folder) == found


def test_a_policy_that_moves_should_be_paid_for_it(tmp_path):
  for name, slope, kl, found in (
    ("up", 0.01, 0.1, []),
    ("down", -0.01, 0.1, ["reward_not_rising"]),
    ("still", -0.01, 0.01, []),
  ):
    rows = [{"objective/score": slope * n, "objective/kl_per_token": kl}
            for n in range(9)]  # fmt: skip
    assert names(toy(tmp_path / name, rows)) == found


def test_what_is_learned_in_supervised_training(tmp_path):
  """The last third of nine losses; validation where it is said not to move."""
  for name, end, held_out, found in (
    ("falls", 0.94, {}, []),
    ("stays", 0.96, {}, ["not_learned"]),
    ("within noise", 0.8, {"a": 1.0, "b": 0.996}, ["not_learned"]),
    ("far", 0.69, {"a": 1.0, "b": 0.996}, []),
    ("on validation", 0.8, {"a": 1.0, "b": 0.9}, []),
  ):
    rows = [{"demonstrations/loss": 1.0}] * 6
    rows += [{"demonstrations/loss": end}] * 3
    for at, key in ((0, "a"), (8, "b")):
      if key in held_out:
        rows[at] = rows[at] | {"validation/demonstrations/loss": held_out[key]}
    config = {"algorithm": "sft"}
    assert names(toy(tmp_path / name, rows, config=config)) == found


def test_one_answer_to_all_prompts(tmp_path):
  def samples(count, alike):
    return [{"step": 5, "prompt": f"{n} ?",
             "response": "Sorry ." if n < alike else f"it is {n} ."}
            for n in range(count)]  # fmt: skip

  for name, rows, found in (
    ("half", samples(8, 4), ["duplicated_responses"]),
    ("fewer", samples(8, 3), []),
    ("too few to say", samples(5, 5), []),
  ):
    assert names(toy(tmp_path / name, [], samples=rows)) == found


def test_a_reward_model_is_judged_by_its_interval(tmp_path):
  for value, low, found in (
    (0.53, 0.49, ["reward_model_at_chance"]),
    (0.53, 0.51, []),
    (0.71, 0.45, []),  # of few pairs, so it may be anything
  ):
    good = {"metric": "reward/accuracy/all", "value": 0.68, "low": 0.62,
            "high": 0.73}  # fmt: skip
    row = {"metric": "reward/accuracy/training", "value": value, "low": low,
           "high": 0.9}  # fmt: skip
    results = {"metrics": {}, "tables": {"reward": [good, row]}}
    config = {"algorithm": "rm"}
    name = f"{value} {low}"
    folder = toy(tmp_path / name, [], config=config, results=results)
    assert names(folder) == found
    for each in examine.run(folder).findings:
      assert "accuracy/all" not in each.evidence


def test_a_large_group_is_seldom_equal_by_chance(tmp_path):
  for value, found in ((0.5, []), (0.51, ["advantages_zero"])):
    rows = [{"groups/equal_scores": value}] * 10
    folder = toy(tmp_path / str(value), rows, config={"rl": {"group_size": 8}})
    assert names(folder) == found


def leaking(root, shared):
  folder = root / "dataset"
  write_json(folder / "config.json", {"config": {"job": "dataset"}})
  for split, numbers in (("train", range(100)), ("test", range(100, 200))):
    prompts = [f"Prompt {n}" for n in numbers]
    if split == "test":
      prompts[:shared] = [f" prompt  {n}" for n in range(shared)]
    lines = [json.dumps({"prompt": prompt}) for prompt in prompts]
    (folder / f"prompts-{split}.jsonl").write_text("\n".join(lines))
  return folder


def test_prompts_in_two_splits_whatever_their_spaces_and_case(tmp_path):
  assert names(leaking(tmp_path / "a", 1)) == []
  (found,) = examine.run(leaking(tmp_path / "b", 2)).findings
  assert found.name == "data_leak"
  assert "2 of 100 prompts in test prompts are in train prompts" in (
    found.evidence
  )


def test_rankings_of_prompts_that_are_tested_on(tmp_path):
  """5 of 100 test prompts of the data set stand in the training rankings."""
  leaking(tmp_path, 0)
  folder = tmp_path / "rankings"
  written = {"config": {"job": "rankings"}, "needs": {"data": "../dataset"}}
  write_json(folder / "config.json", written)
  for start, found in ((195, ["data_leak"]), (200, [])):
    rows = [json.dumps({"prompt": f"prompt {start + n}"}) for n in range(9)]
    (folder / "train.jsonl").write_text("\n".join(rows))
    assert names(folder) == found


def test_a_run_is_examined_with_what_it_was_built_on(tmp_path):
  leaking(tmp_path, 50)
  folder = tmp_path / "ppo"
  needs = {"data": "../dataset", "policy": "../gone", "gpt": "hf:/nowhere"}
  write_json(
    folder / "config.json", {"config": {"job": "train"}, "needs": needs}
  )
  found = examine.run(folder)
  assert [run.name for run in found.runs] == ["ppo", "dataset"]
  assert found.missing == ["gone"]
  assert [f.evidence.split(":")[0] for f in found.findings] == ["dataset"]


def test_a_run_that_was_killed_or_copied_in_part(tmp_path):
  """Half a line, no config, broken results: what is whole is read."""
  folder = tmp_path / "run"
  folder.mkdir()
  whole = {"step": 1, "policy/ratio_first_minibatch": 2.0}
  text = f"{json.dumps(whole)}\n" + '{"step": 2, "policy/ra'
  (folder / "metrics.jsonl").write_text(text)
  (folder / "results.json").write_text("{")
  assert names(folder) == ["ratio_off_one"]


@pytest.mark.parametrize("odd", [None, "x", [], {}, "NaN", True, -1])
def test_whatever_stands_in_the_files_is_no_traceback(odd, tmp_path):
  """Every metric, table and key that is read, of every algorithm."""
  metrics = {name for limit in LIMITS.values() for name in limit[:1]}
  metrics |= {
    *("count/skipped", "count/skipped_in_a_row", "count/episodes"),
    *("objective/kl", "objective/score", "judge/score", "policy/entropy"),
    *("ptx/loss", "response/length", "demonstrations/loss"),
    *("rankings/accuracy", "validation/rankings/accuracy"),
  }
  sections = ("rl", "evaluation", "dpo", "data", "max_skipped")
  for algorithm in ("ppo", "rm", "sft", "dpo", odd):
    folder = toy(
      tmp_path / f"{algorithm}",
      [dict.fromkeys(metrics, odd)] * 9,
      config={"algorithm": algorithm} | dict.fromkeys(sections, odd),
      results={"metrics": odd, "tables": {"reward": odd, "preference": [odd]}},
      samples=[{"step": 1, "prompt": odd, "response": odd}] * 9,
    )
    (folder / "responses.jsonl").write_text(json.dumps({"responses": odd}))
    examine.run(folder)


def test_a_run_that_diverged(tmp_path):
  row = {"policy/loss": 0.1, "count/skipped_in_a_row": 0.0}
  bad = {"policy/loss": "NaN", "count/skipped_in_a_row": 5.0}
  (found,) = examine.run(toy(tmp_path / "bad", [row, bad])).findings
  assert found.name == "diverged"
  assert "policy/loss" in found.evidence
  assert names(toy(tmp_path / "unfinished", [row, row])) == []


def test_no_run_is_an_error_for_people(tmp_path):
  with pytest.raises(errors.UserError, match="no such folder"):
    record.read(tmp_path / "gone")
  report_toys.write(tmp_path / "ppo-tiny")
  with pytest.raises(errors.UserError, match="holds the runs ppo-tiny"):
    record.read(tmp_path)
  with pytest.raises(errors.UserError, match="Did you mean"):
    record.read(tmp_path / "ppo-tini")


def test_the_report_says_what_was_found(tmp_path):
  for ratio, said in ((2.0, "ratio off one"), (1.0, "Nothing was found in ")):
    folder = tmp_path / str(ratio)
    toy(folder, [{"policy/ratio_first_minibatch": ratio}])
    text = page.write(folder, [folder]).read_text()
    assert said in text.partition('id="checks"')[2]
  empty = report_toys.write(tmp_path / "rankings")
  assert 'id="checks"' not in page.write(empty, [empty]).read_text()


def command(*arguments):
  done = subprocess.run(
    [sys.executable, "-m", "instruct_jax.doctor", *map(str, arguments)],
    capture_output=True,
    text=True,
    cwd=doctor_ward.RECORDS.parents[1],
  )
  return done.returncode, done.stdout, done.stderr


def test_the_command(tmp_path):
  sick = toy(tmp_path / "sick", [{"policy/ratio_first_minibatch": 2.0}])
  code, out, _ = command(sick, "--json")
  assert code == 1
  ((name, evidence, remedy),) = [
    tuple(row[key] for key in ("name", "evidence", "remedy"))
    for row in json.loads(out)["findings"]
  ]
  assert name == "ratio_off_one"
  assert "at step 1" in evidence
  assert "Huang et al. 2022" in remedy
  code, out, _ = command(toy(tmp_path / "well", [{"a/b": 1.0}]))
  assert (code, "nothing found" in out) == (0, True)
  code, out, err = command(tmp_path / "gone")
  assert (code, out) == (2, "")
  assert "no such folder" in err


def test_it_starts_without_jax():
  program = (
    "import sys, instruct_jax.doctor.__main__; print('jax' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True
  )
  assert done.stdout.strip() == "False", done.stderr


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
  """The stages of `:test` that PPO needs, as a command builds them."""
  folder = tmp_path_factory.mktemp("stages")
  return built.copied(tmp_path_factory, folder, *built.STAGES[:-1])


ANEW = ("logprobs_off_by_one", "rate_without_effect")


@pytest.mark.slow  # trains the chain of `:test` first, then what is sabotaged
@pytest.mark.parametrize("name", tiers.often(ANEW, "logprobs_off_by_one"))
def test_a_run_sabotaged_anew_has_the_same_finding(name, stages, tmp_path):
  changes = {"batch.prompts": 32, "validation.prompts": 32, "steps": 8}
  folder = doctor_ward.make(
    name, stages, tmp_path, variant="test", changes=changes
  )
  found = [each.name for each in examine.of_record(record.read(folder))]
  assert doctor_ward.SABOTAGED[name]["finding"] in found
