"""The registry of evaluations: needs, splits, and evaluations of one's own."""

import dataclasses
import functools

import pytest

from instruct_jax import worlds
from instruct_jax.base import errors
from instruct_jax.evals import bench, select, suite
from instruct_jax.labeling import rankings
from instruct_jax.worlds.microworld import tasks
from tests import evals_toys


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
  """The folder of a stage that ranked."""
  folder = tmp_path_factory.mktemp("ranked")
  policies = {
    name: evals_toys.params("policy", n)
    for n, name in enumerate(("sft", "gpt"))
  }
  rankings.rank_prompts(evals_toys.make_context(), policies, folder)
  return folder


@pytest.fixture
def splits_asked(monkeypatch):
  """Every split that the world is asked for, by the function asked."""
  asked = []

  def recording(name, function, place):
    @functools.wraps(function)
    def ask(*args):
      asked.append((name, args[place]))
      return function(*args)

    return ask

  here = worlds.of(evals_toys.config_of().data)
  tasks = dataclasses.replace(
    here.tasks,
    answered={k: recording(k, f, 0) for k, f in here.tasks.answered.items()},
    questions=recording("questions", here.tasks.questions, 0),
    beginnings=recording("beginnings", here.tasks.beginnings, 1),
    unseen={k: recording(k, f, 0) for k, f in here.tasks.unseen.items()},
  )
  world = dataclasses.replace(
    here, records=recording("records", here.records, 2), tasks=tasks
  )
  monkeypatch.setattr(worlds, "of", lambda data: world)
  return asked


READS = {
  "nlp": set(tasks.TASKS),
  "truthfulness": {"questions"},
  "toxicity": {"beginnings"},
  "language": {"zorp", "code", "form"},
  "loss": {"records"},
  "reward": {"records"},
  "reward_models": {"records"},
}  # fmt: skip


def toy_bench(split, ranked):
  config = evals_toys.config_of(
    **{"evaluation.split": split, "evaluation.prompts": 4}
  )
  ctx = evals_toys.make_context(config, rankings=ranked)
  subjects = [
    bench.Subject(name, evals_toys.params("policy")) for name in ("sft", "twin")
  ]
  model = evals_toys.params("reward")
  return bench.make(ctx, subjects, {"reward": model}, {"rm": lambda: model})


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("name", suite.EVALUATIONS)
def test_an_evaluation_keeps_to_the_split_of_the_config(
  name, split, ranked, splits_asked
):
  shared = toy_bench(split, ranked)
  assert splits_asked == [("records", split)]
  splits_asked.clear()
  metrics, _ = suite.EVALUATIONS[name](shared)
  examples = {"train"} if name == "nlp" else set()  # before an item
  assert {one for _, one in splits_asked} - examples <= {split}
  assert {function for function, _ in splits_asked} == READS.get(name, set())
  assert metrics


def test_the_prompts_of_another_split_are_others(ranked):
  both = [set(toy_bench(s, ranked).prompts) for s in ("validation", "test")]
  assert len(both[0]) == len(both[1]) == 4
  assert not both[0] & both[1]


def test_an_epoch_is_selected_on_validation_prompts(splits_asked):
  config = evals_toys.config_of(**{"evaluation.split": "test"})
  epochs = [(1, lambda: evals_toys.params("policy"))]
  ctx = evals_toys.make_context(config)
  select.select_epoch(ctx, epochs, evals_toys.params("reward"))
  assert splits_asked
  assert {split for _, split in splits_asked} == {"validation"}


def without(shared, need):
  """A bench that has all but one need."""
  here = worlds.of(shared.ctx.config.data)
  lacking = {
    "judge": {"judge": None},
    "labelers": {"labelers": {}},
    "tasks": {"tasks": None},
    "demonstrations": {"holds": lambda data, kind: kind != "demonstrations"},
    "rankings": {},
    "reward": {},
    "reward_model": {},
    "reward_models": {},
  }[need]
  frozen = dict(shared.frozen)
  if need in ("reward", "reward_model"):
    frozen.pop("reward")
  models = {} if need == "reward_models" else shared.reward_models
  folders = dict(shared.ctx.folders)
  if need == "rankings":
    folders.pop("rankings")
  ctx = dataclasses.replace(shared.ctx, folders=folders)
  world = dataclasses.replace(here, **lacking)
  changes = {"ctx": ctx, "frozen": frozen, "reward_models": models}
  return dataclasses.replace(shared, **changes), world


@pytest.mark.parametrize("need", bench.NEEDS)
def test_what_is_not_there_is_missed_by_who_declares_it(
  need, ranked, monkeypatch
):
  shared, world = without(toy_bench("test", ranked), need)
  monkeypatch.setattr(worlds, "of", lambda data: world)
  declared = bench.needs(need)(lambda shared: ({}, {}))
  # Without its model there is no reward either, where that is what scores.
  of_rewards = {"reward", "reward_model"}
  together = of_rewards if need in of_rewards else {need}
  others = bench.needs(*(set(bench.NEEDS) - together))(lambda shared: ({}, {}))
  assert bench.missing(shared, declared) == (need,)
  assert bench.missing(shared, others) == ()
  assert bench.missing(shared, lambda shared: ({}, {})) == ()


def test_needs_have_names():
  with pytest.raises(errors.UserError, match="Did you mean 'judge'"):
    bench.needs("juge")


OUTSIDE = """
from instruct_jax.evals import bench as bench_lib

@bench_lib.needs("judge")
def evaluate_politeness(bench):
  rows = [
    bench_lib.row(
      ["please" in text for text in bench.ask(s, bench.prompts).texts],
      bench.clusters,
      subject=s.name,
      metric=f"politeness/{s.name}",
    )
    for s in bench.subjects
  ]
  return bench_lib.findings("politeness", rows)

def returns_nothing(bench):
  pass

def returns_words(bench):
  return {"words/sft": "many"}, {}

def returns_a_row(bench):
  return {}, {"words": {"value": 1}}

def returns_objects(bench):
  return {}, {"words": [{"value": bench}]}

def fails(bench):
  return 1 / 0


def measures_likert(bench):
  return {"likert/sft": 1.0}, {}

number = 3
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
  """A module of somebody's own, on the path."""
  (tmp_path / "my_evaluations.py").write_text(OUTSIDE)
  monkeypatch.syspath_prepend(tmp_path)
  return "my_evaluations"


def evaluate(folder, extra):
  config = evals_toys.config_of(
    **{"evaluation.extra": extra, "evaluation.prompts": 4}
  )
  ctx = evals_toys.make_context(config)
  subject = bench.Subject("sft", evals_toys.params("policy"))
  return suite.evaluate_policies(ctx, [subject], folder, {})


def test_an_evaluation_of_ones_own(outside, tmp_path):
  path = f"{outside}:evaluate_politeness"
  outcome = evaluate(tmp_path, path)
  assert outcome.evaluations[path] == "measured"
  assert 0 <= outcome.metrics["politeness/sft"] <= 1
  (row,) = outcome.tables["politeness"]
  assert row["value"] == outcome.metrics["politeness/sft"]
  assert row["n"] == 4
  assert outcome.metrics["likert/sft"] >= 1
  assert set(outcome.evaluations) == {*suite.EVALUATIONS, path}
  assert outcome.evaluations["reward"] == "needs reward_model and rankings"


@pytest.mark.parametrize(
  ("function", "message"),
  [
    ("returns_nothing", "it returned None; an evaluation returns metrics"),
    ("returns_words", "the metric 'words/sft' is 'many'"),
    ("returns_a_row", "the table 'words' is"),
    ("returns_objects", "cannot be written"),
    ("measures_likert", "'likert/sft' has been measured already"),
    ("fails", r"failed: ZeroDivisionError: .*\.py:\d+\)\. The run itself is"),
  ],
)
def test_an_evaluation_that_finds_nothing_readable(
  outside, tmp_path, function, message, monkeypatch
):
  monkeypatch.setattr(
    suite, "EVALUATIONS", {"likert": suite.EVALUATIONS["likert"]}
  )
  with pytest.raises(errors.UserError, match=message):
    evaluate(tmp_path, f"{outside}:{function}")


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("nowhere_at_all:f", "there is no module 'nowhere_at_all'"),
    ("{}.inside:f", "there is no module"),
    ("{}", "name a function as"),
    ("{}:", "name a function as"),
    ("{}:evaluate_politenes", "Did you mean 'evaluate_politeness'"),
    ("{}:number", "is no function but 3"),
  ],
)
def test_a_path_that_leads_nowhere(outside, path, message):
  with pytest.raises(errors.UserError, match=message):
    suite.evaluations_of(path.format(outside))


def test_what_a_module_of_ones_own_lacks_is_named(tmp_path, monkeypatch):
  (tmp_path / "imports_badly.py").write_text("import nowhere_at_all\n")
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(errors.UserError, match=r"nowhere_at_all.*badly.py:1"):
    suite.evaluations_of("imports_badly:f")


def test_several_have_commas_between(outside):
  paths = [f"{outside}:{n}" for n in ("returns_nothing", "returns_words")]
  known = suite.evaluations_of(" , ".join(paths))
  assert list(known) == [*suite.EVALUATIONS, *paths]
  assert known[paths[0]](None) is None
