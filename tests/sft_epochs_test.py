"""SFT by epoch: what is measured, and of which runs."""

import json
import types

import numpy as np
import pytest
from etils import epath

from experiments import sft, sft_epochs
from instruct_jax.base import errors, keys
from instruct_jax.evals import epochs, select, verdicts
from instruct_jax.runs import plan, references
from tests import built, chain_test, evals_toys

EXPERIMENTS = epath.Path(sft_epochs.__file__).parent
RECORDS = (
  {"prompt": "a", "core": "1", "spec": ""},
  {"prompt": "b", "core": "1", "spec": ""},
  {"prompt": "c", "core": "2", "spec": ""},
)
# What the policy of each epoch says, and its loss.
FIRST = {"says": (0.5, 0.25, 0.0), "loss": 1.0}
SECOND = {"says": (0.5, 0.75, 0.25), "loss": 1.5}


def test_a_row_an_epoch_by_hand(monkeypatch):
  asked = select.Asked(RECORDS, [{}] * 5, None)

  def measure(ctx, given, policy, reward):
    assert given is asked
    values = policy["says"]
    said = types.SimpleNamespace(
      texts=tuple(map(str, values)), ended=[True] * len(values)
    )
    return select.Measured(said, 2 * np.asarray(values), policy["loss"], 40)

  def grades(ctx, records, said):
    return [{"likert": 1 + 6 * float(text)} for text in said.texts]

  def worth(ctx, records, texts, graded):
    return np.asarray([[g["likert"], -g["likert"]] for g in graded])

  monkeypatch.setattr(select, "open_asked", lambda ctx: asked)
  monkeypatch.setattr(select, "measure", measure)
  monkeypatch.setattr(verdicts, "grades", grades)
  monkeypatch.setattr(verdicts, "worth", worth)
  metrics, tables = epochs.measure_epochs(
    evals_toys.make_context(), [(8, lambda: FIRST), (16, lambda: SECOND)], {}
  )
  first, second = tables["epochs"]
  assert (first["epoch"], first["step"]) == (1, 8)
  assert (second["epoch"], second["step"]) == (2, 16)
  assert (second["loss"], second["tokens"]) == (1.5, 40)
  assert second["score"] == pytest.approx(2 * 0.5)
  assert second["likert"] == pytest.approx(1 + 6 * 0.5)
  assert second["score_low"] <= second["score"] <= second["score_high"]
  assert (second["n"], second["clusters"]) == (3, 2)
  assert first["preferred"] == 0.5
  # One says the same; of the others each labeler prefers one, another none.
  assert second["preferred"] == pytest.approx(0.5)
  assert metrics["epochs/loss/1"] == 1.0
  assert metrics["epochs/score/2"] == second["score"]
  assert set(metrics) == {
    f"epochs/{name}/{n}"
    for name in ("loss", "score", "likert", "preferred")
    for n in (1, 2)
  }


def test_what_all_labelers_like_better_is_preferred(monkeypatch):
  """Against the first epoch: a third is equal, two thirds are better."""
  asked = select.Asked(RECORDS, [], None)

  def measure(ctx, given, policy, reward):
    values = policy["says"]
    said = types.SimpleNamespace(
      texts=tuple(map(str, values)), ended=[True] * len(values)
    )
    return select.Measured(said, np.asarray(values), policy["loss"], 1)

  monkeypatch.setattr(select, "open_asked", lambda ctx: asked)
  monkeypatch.setattr(select, "measure", measure)
  monkeypatch.setattr(
    verdicts, "grades", lambda ctx, records, said: [{"likert": 1.0}] * 3
  )
  monkeypatch.setattr(
    verdicts,
    "worth",
    lambda ctx, records, texts, graded: np.asarray([[float(t)] for t in texts]),
  )
  _, tables = epochs.measure_epochs(
    evals_toys.make_context(),
    [(1, lambda: FIRST), (2, lambda: SECOND), (3, lambda: FIRST)],
    {},
  )
  found = [row["preferred"] for row in tables["epochs"]]
  assert found == pytest.approx([0.5, (0.5 + 1 + 1) / 3, 0.5])


def planned(root, **changes):
  reference = "sft_epochs.py:tiny"
  config, source = references.load_config(reference, EXPERIMENTS)
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(changes)
  return plan.plan(config, source, epath.Path(root), {})


def test_the_run_is_sft_s_with_the_paper_s_epochs(tmp_path):
  stage = planned(tmp_path)
  assert {name: need.folder.name for name, need in stage.needs.items()} == {
    "data": "dataset-tiny",
    "policy": "sft-tiny-epochs",
    "reward": "rm-tiny",
  }
  there = keys.flatten(stage.needs["policy"].config)
  plain = keys.flatten(sft.get_config("tiny"))
  differing = {key for key in plain if plain[key] != there[key]}
  assert differing == {"epochs", "variant"}
  assert there["epochs"] == 16
  names = {each.name for each in plan.in_order(stage)}
  assert {"sft-tiny", "rm-tiny", "sft-tiny-epochs"} <= names


def test_a_run_without_epochs_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match="keeps no epochs to measure"):
    planned(tmp_path, **{"needs.policy": "ppo.py:tiny"})


@pytest.mark.parametrize("variant", ["tinny", "sft-tinny", "sft"])
def test_an_unknown_variant(variant):
  with pytest.raises(errors.UserError, match="unknown variant"):
    sft_epochs.get_config(variant)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_epochs_end_to_end(tmp_path, tmp_path_factory):
  built.copied(tmp_path_factory, tmp_path / "runs")
  config = "experiments/sft_epochs.py:test"
  code, output = chain_test.finish(
    tmp_path / "runs", tmp_path / "cache", config=config
  )
  assert code == 0, output
  folder = tmp_path / "runs" / "sft_epochs-test"
  results = json.loads((folder / "results.json").read_text())
  rows = results["tables"]["epochs"]
  assert [(row["epoch"], row["step"]) for row in rows] == [
    (1, 4),
    (2, 8),
    (3, 12),
  ]
  assert all(1 <= row["likert"] <= 7 for row in rows)
