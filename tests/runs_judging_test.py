"""A run's reward model as a judge of anybody's texts."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.measuring import contract, found, running
from instruct_jax.models import forward
from instruct_jax.runs import judging, reading
from instruct_jax.tokenizers import templates
from tests import run_folders

PROMPT = "what job does ann have ?"
LONG = " ".join(["a cow"] * 400)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("judging")
  run_folders.dataset(folder)
  for name in ("rm", "sft"):
    run, _ = run_folders.make(folder, name)
    path = run / "results.json"
    results = json.loads(path.read_text()) | {"parameters_digest": "d"}
    path.write_text(json.dumps(results))
  return folder


@pytest.fixture(scope="module")
def scorer(root):
  return judging.scorer(str(root / "rm-test"))


def alone(root, answer, *, ended):
  """The score of one answer without any padding."""
  ctx = reading.open_context(root / "rm-test")
  params = reading.load_parameters(root / "rm-test", ctx, "reward")
  (prompt,) = templates.encode(
    [PROMPT], ctx.tokenizer, ctx.config.data.template
  )
  response = ctx.tokenizer.encode(answer) + [ctx.tokenizer.eot_id] * ended
  rows = {}
  for name, ids in (("prompt", prompt), ("response", response)):
    rows[name] = jnp.asarray([ids], jnp.int32)
    rows[f"is_{name}"] = jnp.ones((1, len(ids)), bool)
  return float(
    jax.jit(lambda p: forward.scores(ctx.scalar, p, rows))(params)[0]
  )


def test_scores(root, scorer):
  answers = ["ann is a nurse .", "bob lives in oslo .", "ann"]
  found = scorer.score([PROMPT] * 3, answers, [True, True, False])
  expected = [
    alone(root, text, ended=ended)
    for text, ended in zip(answers, (True, True, False))
  ]
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert len(set(found)) == 3


@pytest.mark.parametrize("how", ["mean", "worst"])
def test_several_judge_together(root, how):
  run, _ = run_folders.make(root, "rm", name="rm-other", seed=9)
  path = run / "results.json"
  written = json.loads(path.read_text()) | {"parameters_digest": "e"}
  path.write_text(json.dumps(written))
  names = [str(root / name) for name in ("rm-test", "rm-other")]
  asked = [PROMPT] * 3, ["ann is a nurse .", "bob", "ann"], [True] * 3
  each = [judging.scorer(name).score(*asked) for name in names]
  both = judging.scorer(", ".join(names), how)
  combined = {"mean": np.mean, "worst": np.min}[how]
  np.testing.assert_allclose(
    both.score(*asked), combined(each, axis=0), atol=1e-5
  )
  assert both.described["digest"] == "d,e"
  assert both.described["combine"] == how


def test_what_it_cannot_read(scorer):
  found = scorer.score([LONG, PROMPT], ["ann", "ann"], [True, True])
  assert np.isnan(found).tolist() == [True, False]


def test_what_is_known_of_it(root, scorer):
  assert scorer.name == "rm-test"
  assert scorer.described == {"run": str(root / "rm-test"), "digest": "d"}
  assert scorer.accuracy == {}
  path = root / "rm-test" / "results.json"
  results = json.loads(path.read_text())
  results["metrics"] = {"reward/accuracy/held_out": 0.6, "reward/other": 1}
  path.write_text(json.dumps(results))
  assert judging.scorer(str(root / "rm-test")).accuracy == {
    "held-out comparisons, held_out": 0.6
  }


def test_no_reward_model(root):
  with pytest.raises(
    errors.UserError, match=r"--scorer=.*sft-test: hands on a"
  ):
    judging.scorer(str(root / "sft-test"))
  with pytest.raises(errors.UserError, match=r"--scorer.*none"):
    judging.scorer(str(root / "none"))


def test_numbers_depend_on_it_where_it_is_used(tmp_path):
  """Another reward model is another measurement, of sets that use one."""
  calls = []

  def compare(bench):
    calls.append((bench.name, bench.scorer))
    return contract.Compared({}, [])

  def a_set(**more):
    given = {"about": "a", "files": {}, "published": "b", "headline": "c"}
    return contract.Set(**given, compare=compare, **more)

  sets = {"scored": a_set(is_scored=True), "other": a_set()}
  there = {name: found.Found({}) for name in sets}

  def measure(digest):
    scorer = contract.Scorer("rm", {"digest": digest}, {}, lambda *_: None)
    calls.clear()
    running.measure(
      [], sets, there, contract.Settings(), tmp_path, scorer=scorer
    )
    return [(name, one is not None) for name, one in calls]

  assert measure("one") == [("scored", True), ("other", False)]
  assert measure("one") == []
  assert measure("two") == [("scored", True)]
