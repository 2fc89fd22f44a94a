"""Candidates, labelers and the rankings job."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from instruct_jax import worlds
from instruct_jax.base import errors, interrupt
from instruct_jax.data.batch import encoding, loader
from instruct_jax.inference import encode, respond
from instruct_jax.labeling import quality, rankings
from instruct_jax.maths import preferences
from instruct_jax.worlds.microworld import contamination, judge, labelers
from tests import evals_toys


def sample(ctx, prompts, **changes):
  policy = respond.policy_of(
    ctx, evals_toys.params("policy"), **({"rows": 16} | changes)
  )
  return respond.respond(policy, prompts, jax.random.key(1))


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
  """The finished job: its context, folder, metrics and tables."""
  folder = tmp_path_factory.mktemp("rankings")
  ctx = evals_toys.make_context()
  return ctx, folder, *rankings.rank_prompts(ctx, policies(), folder)


def policies():
  return {
    "sft": evals_toys.params("policy"),
    "gpt": evals_toys.params("policy", 1),
  }


def records(folder, split):
  lines = (folder / f"{split}.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_sample_aligns_texts_with_tokens():
  ctx = evals_toys.make_context()
  prompts = ["where does ann live ?", "list three foods ."] * 9
  found = sample(ctx, prompts)
  assert len(found.texts) == len(found.ended) == 18
  assert found.prompt.shape == (18, ctx.config.data.prompt_length)
  again = loader.decode_responses(
    found.response, found.is_response, ctx.tokenizer
  )
  assert tuple(again) == found.texts
  for row, mask, ended in zip(found.response, found.is_response, found.ended):
    assert ended == (row[mask][-1] in ctx.tokenizer.stop_ids)


def test_sample_depends_on_place_and_key_alone():
  ctx = evals_toys.make_context()
  prompts = ["where does ann live ?"] * 20
  whole, start = sample(ctx, prompts), sample(ctx, prompts[:7])
  np.testing.assert_array_equal(whole.response[:7], start.response)
  assert len(set(whole.texts)) > 10  # Repeated prompts differ.


def test_a_mesh_samples_the_same():
  alone = evals_toys.make_context()
  config = evals_toys.config_of(**{"mesh.data": 4, "mesh.fsdp": 2})
  prompts = ["where does ann live ?", "list three foods ."] * 9
  found = sample(evals_toys.make_context(config), prompts)
  np.testing.assert_array_equal(sample(alone, prompts).response, found.response)


def test_sample_of_nothing():
  found = sample(evals_toys.make_context(), [])
  assert found.texts == ()
  assert found.response.shape == (0, 16)


def test_temperature_zero_is_greedy():
  ctx = evals_toys.make_context()
  found = sample(ctx, ["where does ann live ?"] * 3, temperature=0.0)
  assert len(set(found.texts)) == 1


def test_a_prompt_that_is_too_long_is_named():
  ctx = evals_toys.make_context()
  with pytest.raises(errors.UserError, match=r"1 of 2 prompts .* 'ann ann"):
    sample(ctx, ["ann", "ann " * 40])


def test_the_prompted_template_widens_prompts():
  ctx = evals_toys.make_context()
  width = ctx.config.data.prompt_length
  assert encode.width_of(ctx, ctx.config.data.template) == width
  assert encode.width_of(ctx, encode.RAW_TEMPLATE) == width
  assert encode.width_of(ctx, ctx.world.prompted_template) > width


def test_encoded_responses_are_those_of_the_data_pipeline():
  ctx = evals_toys.make_context()
  texts = ["ann is a nurse .", "ann " * 20, "no"]
  record = {"prompt": "who ?", "responses": texts, "ranks": [1, 2, 3]}
  record["ended"] = [True, False, True]
  rows = encoding.encode_records(
    [record], ctx.config.data, ctx.tokenizer, "rankings", "here"
  )
  wanted = rows.take(slice(None))
  found = encode.responses(ctx, texts, record["ended"])
  for name in ("response", "is_response"):
    np.testing.assert_array_equal(wanted[name][0, :3], found[name])


def test_rankings_file(ranked):
  ctx, folder, *_ = ranked
  section = ctx.config.rankings
  train = records(folder, "train")
  assert len(train) == section.train
  names = {labeler.name for labeler in labelers.training()}
  for record in train:
    k = len(record["responses"])
    assert section.k_min <= k <= section.k_max
    for name in ("ranks", "ended", "sources"):
      assert len(record[name]) == k
    assert record["labeler"] in names
    assert set(record["sources"]) <= set(section.sources)
    _check_ranks(record)


def _check_ranks(record):
  by_text = dict(zip(record["responses"], record["ranks"]))
  for text, rank in zip(record["responses"], record["ranks"]):
    assert by_text[text] == rank  # Identical texts tie.
  assert min(record["ranks"]) == 1
  grades = quality.grade(
    judge, record["spec"], record["responses"], record["ended"]
  )
  everyone = labelers.training() + labelers.held_out()
  who = {labeler.name: labeler for labeler in everyone}[record["labeler"]]
  assert record["ranks"] == who.rank(
    record["prompt"], record["responses"], grades
  )


@pytest.mark.parametrize("split", ["validation", "test"])
def test_both_groups_rank_the_same_lists(ranked, split):
  ctx, folder, *_ = ranked
  found = records(folder, split)
  assert len(found) == 2 * ctx.config.rankings[split]
  for first, second in zip(found[::2], found[1::2]):
    assert (first["group"], second["group"]) == ("training", "held_out")
    assert first["responses"] == second["responses"]
    assert first["prompt"] == second["prompt"]
    _check_ranks(second)


def test_prompts_of_the_splits_differ(ranked):
  _, folder, *_ = ranked
  prompts = [{r["prompt"] for r in records(folder, s)} for s in rankings.SPLITS]
  assert not prompts[0] & prompts[1]
  assert not (prompts[0] | prompts[1]) & prompts[2]


def test_nothing_held_out_is_in_the_training_rankings(ranked):
  ctx, folder, *_ = ranked
  held_out = set()
  for split in ("validation", "test"):
    held_out |= contamination.held_out(split)
    rows = ctx.rows("prompts", split)
    held_out |= {record["core"] for record in rows.source}
  texts = []
  for record in records(folder, "train"):
    texts += [record["prompt"], *record["responses"]]
  assert contamination.find(held_out, texts) == set()


def test_the_reward_model_reads_the_file_alone(ranked):
  ctx, folder, *_ = ranked
  rows = loader.make(
    ctx.config.data, ctx.tokenizer, "rankings", "train", {"rankings": folder}
  )
  batch = rows.take(slice(None))
  assert rows.counts["prompts_too_long"] == 0
  for n, i in enumerate(rows.index):
    record = rows.source[i]
    k = len(record["responses"])
    assert batch["ranks"][n, :k].tolist() == record["ranks"]
    texts = loader.decode_responses(
      batch["response"][n, :k], batch["is_response"][n, :k], ctx.tokenizer
    )
    assert texts == record["responses"]


def test_metrics_add_up(ranked):
  _, folder, found, tables = ranked
  pairs = 0
  for record in records(folder, "train"):
    ranks = np.asarray(record["ranks"])[None]
    pairs += int(preferences.pairs(ranks, np.ones_like(ranks, bool)).sum())
  assert found["rankings/pairs/train"] == pairs
  assert 4 <= found["rankings/completions"] <= 9
  assert 0 <= found["rankings/ties"] <= 1
  for group in labelers.GROUPS:
    assert 0 <= found[f"agreement/{group}"] <= 1
    assert 0 <= found.get(f"labelers/judge_concurs/{group}", 0) <= 1
  for row in tables["agreement"]:
    assert row["low"] <= row["value"] <= row["high"]
  for source in ("sft", "sft_hot", "prompted_gpt"):
    assert 1 <= found[f"candidates/likert/{source}"] <= 7


def test_restart_gives_the_same_bytes(ranked, tmp_path, monkeypatch, capsys):
  ctx, folder, metrics, tables = ranked
  checks = iter([False, False, True])

  def stop():
    if next(checks):
      raise interrupt.Interrupted

  with monkeypatch.context() as patch:
    patch.setattr(interrupt, "check", stop)
    with pytest.raises(interrupt.Interrupted):
      rankings.rank_prompts(ctx, policies(), tmp_path)
  assert not (tmp_path / "train.jsonl").exists()
  # What a kill leaves behind: half a file, which is not taken for a chunk.
  (tmp_path / "chunks" / ".validation-00000.json.partial").write_text('{"rec')
  done = sorted(p.name for p in (tmp_path / "chunks").glob("*.json"))
  assert done == [f"train-{n:05d}.json" for n in range(3)]
  capsys.readouterr()
  again = rankings.rank_prompts(ctx, policies(), tmp_path)
  assert again == (metrics, tables)
  # The rate is that of the chunks made now.
  assert capsys.readouterr().err.startswith("rankings  4/")
  for split in rankings.SPLITS:
    name = f"{split}.jsonl"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_finished_job_samples_nothing(ranked, monkeypatch):
  ctx, folder, metrics, tables = ranked
  monkeypatch.setattr(respond, "respond", None)
  assert rankings.rank_prompts(ctx, policies(), folder) == (metrics, tables)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rankings.sources.sft.share": 0.5}, "add up to 1"),
    ({"rankings.sources.sft.policy": "sftt"}, "Did you mean 'sft'"),
    ({"rankings.k_max": 10}, "data.k_max"),
    ({"rankings.k_min": 1}, "k_min"),
    ({"rankings.train": 1000}, r"rankings\.train=1000.*24 prompts"),
    ({"data.source": "files"}, "data.source=files: there is nobody who can"),
  ],
)
def test_impossible_configs(changes, message, tmp_path):
  ctx = evals_toys.make_context(evals_toys.config_of(**changes))
  with pytest.raises(errors.UserError, match=message):
    rankings.rank_prompts(ctx, policies(), tmp_path)


def test_a_world_without_held_out_labelers_has_its_own_rank(
  tmp_path, monkeypatch
):
  here = worlds.of(evals_toys.config_of().data)
  panel = {"training": here.labelers["training"][:2]}
  world = dataclasses.replace(here, labelers=panel)
  monkeypatch.setattr(worlds, "of", lambda data: world)
  config = evals_toys.config_of(**{"rankings.train": 4, "rankings.test": 0})
  ctx = evals_toys.make_context(config)
  metrics, tables = rankings.rank_prompts(ctx, policies(), tmp_path)
  assert metrics["rankings/lists/train"] == 4
  assert metrics["rankings/lists/validation"] == 4
  who = {r["labeler"] for r in records(tmp_path, "train")}
  assert who <= {"training-0", "training-1"}
  assert [row["labelers"] for row in tables["agreement"]] == ["training"]


def test_statistics_of_a_ranking():
  grades = [{"score": s} for s in (0.9, 0.5, 0.5)]
  found = quality.of_ranking("training", [1, 3, 1], grades)
  assert found["rankings/ties"] == (1.0, 3.0)
  assert found["rankings/judge_ties"] == (1.0, 3.0)
  # Both order (0, 1), and the same way; (0, 2) ties, (1, 2) ties for the judge.
  assert found["labelers/judge_concurs/training"] == (1.0, 1.0)


def test_statistics_add():
  first = {"a": (1.0, 2.0)}
  assert quality.add(first, {"a": (3, 4), "b": (1, 1)}) == {
    "a": (4.0, 6.0),
    "b": (1.0, 1.0),
  }
