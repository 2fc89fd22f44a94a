"""Subjects of several sizes on one bench, and comparisons that are joined."""

import json

import numpy as np
import pytest

from experiments import sizes as sizes_experiment
from instruct_jax.base import errors
from instruct_jax.evals import bench, bias, kl, length, loss
from instruct_jax.inference import context, score
from instruct_jax.models import sizes
from instruct_jax.runs import (
  comparing,
  config_checks,
  digests,
  needed,
  subjects,
)
from instruct_jax.worlds.microworld import answers
from tests import evals_toys, run_folders, toys

EVALUATIONS = (
  length.evaluate_length,
  bias.evaluate_bias,
  loss.evaluate_loss,
)


@pytest.fixture(scope="module")
def of_two_sizes():
  """(bench of a small and a large one, bench of the large one's own)."""
  own = evals_toys.make_context()
  other = context.with_model(own, sizes.section("test-large"))
  key = evals_toys.jax.random.key(5)
  large = toys.init_params(other.policy, key)
  small = bench.Subject("sft", evals_toys.params("policy"))
  foreign = bench.Subject("large", large, ctx=other)
  native = bench.Subject("large", large)
  mixed = bench.make(own, (small, foreign), {})
  return mixed, bench.make(other, (native,), {})


def test_a_subject_of_another_size_says_and_knows_what_it_does_alone(
  of_two_sizes,
):
  # Samples: a program a size has to be compiled.
  mixed, alone = of_two_sizes
  for evaluate in EVALUATIONS:
    found, expected = evaluate(mixed)[0], evaluate(alone)[0]
    assert expected
    assert expected.items() <= found.items()


def test_kl_between_two_sizes_is_the_difference_of_their_logprobs(of_two_sizes):
  mixed, alone = of_two_sizes
  metrics, _ = kl.evaluate_kl(mixed)
  (large,), (small, _) = alone.subjects, mixed.subjects
  said, rows = alone.ask(large, alone.prompts).sequences, 16
  own = score.logprobs(alone.ctx, large.params, said, rows=rows)
  theirs = score.logprobs(mixed.ctx, small.params, said, rows=rows)
  expected = (own.astype(np.float64) - theirs).mean()
  assert metrics["kl/large"] == pytest.approx(expected, rel=1e-5)
  assert metrics["kl/sft"] == 0


def test_the_reference_may_be_another_than_the_baseline(of_two_sizes):
  mixed, _ = of_two_sizes
  assert mixed.reference.name == mixed.baseline.name == "sft"
  config = mixed.ctx.config.copy_and_resolve_references().unlock()
  config.evaluation.reference = "large"
  ctx = bench.dataclasses.replace(mixed.ctx, config=config.lock())
  other = bench.dataclasses.replace(mixed, ctx=ctx)
  metrics, tables = kl.evaluate_kl(other)
  assert metrics["kl/large"] == 0
  assert metrics["kl/sft"] != 0
  assert {row["reference"] for row in tables["kl"]} == {"large"}


def test_a_context_of_the_same_shape_is_the_same():
  ctx = evals_toys.make_context()
  same = ctx.config.model.copy_and_resolve_references().unlock()
  same.dropout = 0.3
  assert context.with_model(ctx, same) is ctx
  assert context.with_model(ctx, sizes.section("test-large")) is not ctx


@pytest.mark.parametrize(
  ("name", "source", "said"),
  [
    ("tiny", "microworld", "medium"),
    ("tiny-small", "microworld", "small"),
    ("test-large", "microworld", "large"),
    ("files", "files", ""),
    ("1.3b", "files", "1.3b"),
    ("gpt2", "files", "gpt2"),
  ],
)
def test_sizes_have_names(name, source, said):
  section = sizes.section(name)
  assert sizes.name_of(section, source=source) == said
  section.layers += 40
  assert sizes.name_of(section, source=source) == ""


def test_of_size():
  assert sizes.of_size("tiny", "large") == "tiny-large"
  assert sizes.of_size("tiny", "medium") == "tiny"
  with pytest.raises(errors.UserError, match="size 'huge'"):
    sizes.of_size("tiny", "huge")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """sft, its selected second epoch, PPO-ptx of 3 steps from it."""
  root = tmp_path_factory.mktemp("runs")
  run_folders.dataset(root)
  run_folders.make(root, "sft", steps=(2, 4))
  run_folders.make(root, "ppo_ptx", policy="select-test", reward="rm-test")
  config = run_folders.sft.get_config("test").unlock()
  config.job = "select"
  needs = {"data": "../dataset-test", "policy": "../sft-test"}
  write = run_folders.write_json
  write(root / "select-test/config.json", run_folders.record_of(config, needs))
  product = {"run": "../sft-test", "step": 4, "item": "params.policy"}
  write(root / "select-test/results.json", {"product": product})
  path = root / "sft-test/results.json"
  results = json.loads(path.read_text())
  results["product"]["epochs"] = [2, 4]
  write(path, results)
  path = root / "ppo_ptx-test/results.json"
  write(path, json.loads(path.read_text()) | {"steps": 3})
  return root


PARAMS = {"a": np.zeros((3, 4)), "b": {"c": np.zeros(5)}}


def row_of(root, name, **section):
  section = sizes_experiment.common.subject("x", **section)
  return subjects.facts(
    name, bench.ConfigDict(section), root / f"{name}-test", PARAMS
  )


def test_what_a_subject_was_trained_with(root):
  sft = row_of(root, "select")
  assert sft == {
    "subject": "select",
    "method": "sft",
    "size": "medium",
    "parameters": 17,
    "run": "select-test",
    "learning_rate": 1e-3,
    "epochs": 2,  # the second that was kept
  }
  ppo = row_of(root, "ppo_ptx", best_of=4)
  assert ppo == {
    "subject": "ppo_ptx",
    "method": "ppo_ptx",
    "size": "medium",
    "parameters": 17,
    "run": "ppo_ptx-test",
    "best_of": 4,
    "learning_rate": 5e-4,
    "kl_coef": 0.1,
    "ptx_coef": 1.0,
    "episodes": 3 * 32,
    "init_ptx": 0.0,  # SFT's
    "init_epochs": 2,
  }
  assert row_of(root, "select", prompted=True)["method"] == "prompted_gpt"
  assert row_of(root, "ppo_ptx", step=2)["episodes"] == 2 * 32


def test_ppo_is_told_from_ppo_ptx_by_its_coefficient(root):
  path = root / "ppo_ptx-test/config.json"
  before = path.read_text()
  record = json.loads(before)
  record["config"]["rl"]["ptx_coef"] = 0.0
  path.write_text(json.dumps(record))
  try:
    assert row_of(root, "ppo_ptx")["method"] == "ppo"
  finally:
    path.write_text(before)


def test_a_share_of_text_in_the_initialisation(root):
  path = root / "sft-test/config.json"
  before = path.read_text()
  record = json.loads(before)
  record["config"]["loss"] = {"demonstrations": 0.9, "pretraining": 0.1}
  path.write_text(json.dumps(record))
  try:
    assert row_of(root, "ppo_ptx")["init_ptx"] == pytest.approx(0.1)
    assert row_of(root, "select")["init_ptx"] == pytest.approx(0.1)
    record["config"]["loss"] = {"pretraining": 1.0}
    path.write_text(json.dumps(record))
    assert row_of(root, "select")["method"] == "gpt"
    assert "init_ptx" not in row_of(root, "select")
  finally:
    path.write_text(before)


def joined_context(**changes):
  config = sizes_experiment.get_config("test").unlock()
  config.data.sizes.update(evals_toys.SIZES)
  config.evaluation.baseline = "flawed"
  config.join.against = ("one", "two")
  config.needs = {"data": "", "one": "", "two": ""}
  config.update_from_flattened_dict(changes)
  return evals_toys.make_context(config.lock())


def write_part(folder, records, metrics, tables, **said):
  """A comparison whose subjects say what writers make of the prompts."""
  folder.mkdir()
  (folder / "config.json").write_text(json.dumps({"config": {}}))
  results = {"metrics": metrics, "tables": tables}
  (folder / "results.json").write_text(json.dumps(results))
  texts = {
    name: say([r["prompt"] for r in records]) for name, say in said.items()
  }
  lines = [
    {
      "prompt": record["prompt"],
      "use_case": record["use_case"],
      "responses": {
        name: {"text": of[n], "ended": True, "likert": 4}
        for name, of in texts.items()
      },
    }
    for n, record in enumerate(records)
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / "responses.jsonl").write_text(text)


@pytest.fixture
def parts(tmp_path):
  """Two comparisons; both have the flawed one as their baseline."""
  records = bench.open_prompts(joined_context(), "test")[:16]
  flawed = evals_toys.writer(records, answers.flawed)
  shared = {"metric": "likert/flawed", "subject": "flawed", "value": 4.0}
  for name, mine in (
    ("one", {"twin": flawed}),
    ("two", {"ideal": evals_toys.writer(records)}),
  ):
    (subject,) = mine
    own = {"metric": f"likert/{subject}", "subject": subject, "value": 3.0}
    mine_too = shared | {"value": 4.0 if name == "two" else 9.0}
    tables = {"likert": [mine_too, own], "models": [{"subject": subject}]}
    metrics = {"likert/flawed": mine_too["value"], f"likert/{subject}": 3.0}
    write_part(tmp_path / name, records, metrics, tables, flawed=flawed, **mine)
  return {name: bench_path(tmp_path / name) for name in ("one", "two")}


def bench_path(path):
  return comparing.epath.Path(path)


def test_parts_are_joined_and_held_against_each_other(parts, tmp_path):
  ctx = joined_context()
  metrics, tables = comparing.join(ctx, bench_path(tmp_path), parts)
  # What both have stands there once, as the last of them found it.
  assert tables["likert"][1]["value"] == 4.0
  assert [r["subject"] for r in tables["likert"]] == ["twin", "flawed", "ideal"]
  assert [r["subject"] for r in tables["models"]] == ["twin", "ideal"]
  assert metrics["likert/flawed"] == 4.0
  # No part has both of these.
  better = metrics["preference/ideal_over_twin/training"]
  assert better > 0.75
  worse = metrics["preference/twin_over_ideal/training"]
  assert better + worse == pytest.approx(1)
  assert metrics["preference/twin_over_flawed/held_out"] == 0.5
  pairs = {(r["subject"], r["baseline"]) for r in tables["preference"]}
  assert len(pairs) == 3 * 2
  assert {r["n"] for r in tables["preference"]} == {16}
  cases = tables["preference_by_use_case"]
  assert {row["baseline"] for row in cases} == {"flawed"}
  lines = (tmp_path / "responses.jsonl").read_text().splitlines()
  first = json.loads(lines[0])
  assert list(first["responses"]) == ["twin", "flawed", "ideal"]
  share = np.mean(
    [
      json.loads(line)["responses"]["ideal"]["preferred"]["twin"]
      for line in lines
    ]
  )
  assert share == pytest.approx(better, abs=1e-4)


@pytest.mark.parametrize("own", ["one", "two"])
def test_what_kl_is_measured_from_has_none_from_other_parts(
  parts, tmp_path, own
):
  """The baseline of both is the reference of one; the order does not count."""
  for name, folder in parts.items():
    reference, kl_of = ("flawed", 0.0) if name == own else (name, 7.0)
    row = {"subject": "flawed", "reference": reference, "value": kl_of}
    row |= {"metric": "kl/flawed", "per_token": kl_of / 2}
    path = folder / "results.json"
    results = json.loads(path.read_text())
    results["tables"]["kl"] = [row]
    results["metrics"] |= {"kl/flawed": kl_of, "kl_per_token/flawed": kl_of / 2}
    path.write_text(json.dumps(results))
  ctx = joined_context(**{"join.against": ()})
  metrics, tables = comparing.join(ctx, bench_path(tmp_path), parts)
  assert metrics["kl/flawed"] == metrics["kl_per_token/flawed"] == 0
  assert [row["reference"] for row in tables["kl"]] == ["flawed"]


def test_nothing_is_held_against_each_other_unless_asked(parts, tmp_path):
  ctx = joined_context(**{"join.against": ()})
  metrics, tables = comparing.join(ctx, bench_path(tmp_path), parts)
  assert set(tables) == {"likert", "models"}
  assert len(metrics) == 3
  assert not (tmp_path / "responses.jsonl").exists()


def test_parts_that_were_asked_other_prompts_are_not_compared(parts, tmp_path):
  path = parts["two"] / "responses.jsonl"
  lines = path.read_text().splitlines(keepends=True)
  path.write_text("".join(lines[1:]))
  with pytest.raises(errors.UserError, match=r"two .* not asked the same"):
    comparing.join(joined_context(), bench_path(tmp_path), parts)
  path.write_text("{")
  with pytest.raises(errors.UserError, match=r"responses.jsonl: cannot be"):
    comparing.join(joined_context(), bench_path(tmp_path), parts)


def changed(variant, **changes):
  config = sizes_experiment.get_config(variant).unlock()
  config.update_from_flattened_dict(changes)
  return config.lock()


@pytest.mark.parametrize(
  ("variant", "key", "value", "said"),
  [
    ("compare-test-one", "evaluation.subjects.gpt.run", "", "gpt.run is empty"),
    ("compare-test-one", "evaluation.reference", "stf", "reference.*stf"),
    ("compare-test-one", "evaluation.extra", "nowhere.at:all", "nowhere"),
    ("compare-test-one", "evaluation.suite", "policies", "done twice"),
    ("test", "join.against", ("small", "huge"), "huge"),
  ],
)
def test_what_cannot_be_compared_is_refused(variant, key, value, said):
  config_checks.check(changed(variant))
  with pytest.raises(errors.UserError, match=said):
    config_checks.check(changed(variant, **{key: value}))


def test_parts_must_be_comparisons_on_the_same_prompts():
  whole = changed("test")
  part = changed("compare-test-small")
  needed.check_need(whole, "small", part)
  fewer = changed("compare-test-small", **{"evaluation.prompts": 7})
  with pytest.raises(errors.UserError, match=r"prompts is 7, here it is 16"):
    needed.check_need(whole, "small", fewer)
  with pytest.raises(errors.UserError, match="no comparison"):
    needed.check_need(whole, "small", changed("ppo-test-small"))


def test_what_is_evaluated_counts_where_it_is_the_job():
  def digest(variant, **changes):
    return digests.of_stage(changed(variant, **changes), {})

  fewer = {"evaluation.prompts": 3}
  part = "compare-test-one"
  assert digest(part) != digest(part, **fewer)
  assert digest(part) == digest(part, seed=3)
  assert digest("test") != digest("test", **fewer)
  # Where policies are trained it is not.
  assert digest("ppo-test-small") == digest("ppo-test-small", **fewer)


def test_rows_that_say_the_same_count_once():
  first = [{"epoch": 1, "score": 0.5}, {"epoch": 2, "score": 0.5}]
  more = [{"epoch": 2, "score": 0.5}, {"epoch": 3, "score": 0.5}]
  assert [row["epoch"] for row in comparing._with(first, more)] == [1, 2, 3]
  # By the metric where there is one, else by all that is said in words.
  ppo = {"subject": "ppo", "use_case": "chat", "value": 0.1}
  other = ppo | {"use_case": "brainstorming"}
  assert comparing._with([ppo], [other]) == [ppo, other]
  again = ppo | {"value": 0.2}
  assert comparing._with([ppo, other], [again]) == [other, again]
  named = {"metric": "a/b", "value": 1.0}
  assert comparing._with([named], [named | {"metric": "a/c"}])[0] is named
  assert comparing._with([named], [named | {"value": 2.0}])[0]["value"] == 2.0
