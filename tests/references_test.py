"""What a user named is never moved or rebuilt; what is not used not built."""

import json

import pytest
from etils import epath

from experiments import sft
from instruct_jax.base import errors, run_folder
from instruct_jax.runs import digests, plan, references, suites
from instruct_jax.runs import finished as finished_runs
from tests import run_folders

SOURCE = epath.Path(sft.__file__)


def record_of(stage):
  return digests.record_of(stage.config, stage.needs)


def of_evaluation(stage):
  return digests.of_evaluation(stage.config, stage.needs)


def plan_of(root, **changes):
  default, _ = references.load_config("sft.py:test", SOURCE.parent)
  config = default.copy_and_resolve_references()
  config.update_from_flattened_dict(changes)
  overrides = plan.overrides_of(config, default)
  return plan.plan(config, SOURCE, epath.Path(root), overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished `pretrain-test` with other settings than the experiment's."""
  root = tmp_path_factory.mktemp("runs")
  run_folders.dataset(root)
  folder, _ = run_folders.make(root, "sft", name="pretrain-test")
  path = run_folder.files(folder).results
  results = json.loads(path.read_text()) | {"parameters_digest": "p" * 32}
  path.write_text(json.dumps(results))
  return root, folder


def names(stage):
  return {each.name for each in plan.in_order(stage)}


def test_a_run_that_is_named_is_taken_and_nothing_unused_is_built(finished):
  root, run = finished
  changes = {"needs.policy": str(run), "evaluation.suite": "none"}
  stage = plan_of(root, **changes)
  assert names(stage) == {"dataset-test", "sft-test"}
  given = stage.needs["policy"]
  assert given.folder == run
  assert (given.role, given.digest) == ("policy", "p" * 32)
  record = record_of(stage)
  assert record["needs"]["policy"] == str(run.resolve())
  assert record["needs_digests"]["policy"] == "p" * 32
  assert "gpt" not in record["needs"]


def test_a_folder_that_is_occupied_by_a_named_run_is_said(finished, tmp_path):
  root, run = finished
  with pytest.raises(errors.UserError) as error:
    plan_of(root, **{"needs.policy": str(run)})  # needs.gpt: pretrain.py:test
  for word in (str(run), "pretrain-test", "config.needs.policy", "--workdir"):
    assert word in str(error.value)
  assert run_folder.files(run).results.exists()
  elsewhere = plan_of(tmp_path, **{"needs.policy": str(run)})
  assert "pretrain-test" in names(elsewhere)
  both = {"needs.policy": str(run), "needs.gpt": str(run)}
  assert names(plan_of(root, **both)) == {"dataset-test", "sft-test"}


def test_evaluating_later_needs_more_and_trains_nothing_anew(tmp_path):
  without = plan_of(tmp_path, **{"evaluation.suite": "none"})
  evaluated = plan_of(tmp_path)
  assert set(evaluated.needs) - set(without.needs) == {"gpt"}
  assert evaluated.digest == without.digest
  assert of_evaluation(evaluated) != of_evaluation(without)


def test_what_only_the_evaluation_reads_is_no_reason_to_train_anew(tmp_path):
  before = record_of(plan_of(tmp_path))
  changes = {"evaluation.suite": "none", "epochs": 3}
  after = record_of(plan_of(tmp_path, **changes))
  assert digests.difference(before, after) == "config.epochs changed (2 -> 3)"


def test_a_need_hands_on_what_its_name_says(finished):
  root, run = finished
  with pytest.raises(errors.UserError, match="hands on a policy, where a rewa"):
    references.resolve("reward", str(run))
  with pytest.raises(errors.UserError, match="hands on no parameters"):
    references.resolve("policy", str(root / "dataset-test"))


def test_a_run_that_lacks_an_evaluation_is_evaluated_again(
  tmp_path, monkeypatch
):
  stage = plan_of(tmp_path)
  every = suites.evaluations(stage.config)
  results = {
    "evaluation_digest": of_evaluation(stage),
    "evaluations": dict.fromkeys(every, "measured"),
  }
  assert not finished_runs.lacks_evaluation(stage, results)
  monkeypatch.setattr(suites, "evaluations", lambda _: (*every, "new"))
  assert finished_runs.lacks_evaluation(stage, results)
  other = plan_of(tmp_path, **{"evaluation.prompts": 8})
  assert finished_runs.lacks_evaluation(other, results)


def test_a_run_of_before_is_no_other_for_the_names_of_remat(tmp_path):
  """What a layer computes again was a yes or a no once."""
  stage = plan_of(tmp_path)
  config = stage.config.copy_and_resolve_references().unlock()
  section = {name: x for name, x in config.model.items() if name != "remat"}
  found = []
  for once in ("none", False, "full", True, "dots"):
    config.model = section | {"remat": once}
    found.append(digests.of_stage(config, stage.needs))
  assert found[0] == found[1] == stage.digest
  assert found[2] == found[3]
  assert len(set(found)) == 3
