"""Public questions to a real checkpoint, and to one of random weights."""

import jax
import numpy as np
import pytest
from etils import epath

from instruct_jax import score
from instruct_jax.base import storage
from instruct_jax.hf import llama2c
from instruct_jax.inference import likelihood
from instruct_jax.measuring import contract, found, prompts, running
from instruct_jax.parallel import sharding
from instruct_jax.runs import reading
from instruct_jax.scoring import spans
from instruct_jax.sets import squadv2
from tests import exchange_test, sets_answering_test

STORIES, PUBLIC = exchange_test.PUBLIC, sets_answering_test.PUBLIC
SOME = 12
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not STORIES.exists(), reason=f"not here: {STORIES}"),
]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
  folder = tmp_path_factory.mktemp("stories") / "hf"
  llama2c.to_hf(STORIES / "stories260K.bin", STORIES / "tok512.bin", folder)
  reference = epath.Path(f"hf:{folder}")
  ctx = reading.open_context(reference)
  params = reading.load_parameters(reference, ctx, "policy")
  return ctx, jax.tree.map(np.asarray, params)  # on no device yet


def random_weights(params):
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(0), len(leaves))
  drawn = [0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)]
  return jax.tree.unflatten(tree, map(np.asarray, drawn))


def given(context, name, **mesh):
  ctx, params = context
  params = params if name == "stories" else random_weights(params)
  axes = {"data": 1, "fsdp": 1, "tensor": 1} | mesh
  reader = likelihood.Reader(
    ctx.policy, params, ctx.tokenizer, sharding.make_mesh(**axes)
  )
  return running.Given(name, {"digest": name}, lambda: reader)


def measure(given_, out):
  there = found.of_set(squadv2.SET, str(PUBLIC), {})
  sets, files = {"squadv2": squadv2.SET}, {"squadv2": there}
  settings = contract.Settings(limit=SOME)
  return running.measure(given_, sets, files, settings, out)


def rows_of(out):
  lines = (out / "squadv2.jsonl").read_text().splitlines()
  return [sets_answering_test.json.loads(line) for line in lines]


def test_squad_end_to_end(context, tmp_path, monkeypatch, capsys):
  models = [given(context, name) for name in ("stories", "random")]
  results = measure(models, tmp_path)
  one = results["sets"]["squadv2"]
  rows = rows_of(tmp_path)
  assert sorted(row["model"] for row in rows) == (
    ["random"] * SOME + ["stories"] * SOME
  )
  ctx, _ = context
  room = ctx.policy.config.context_length - squadv2.MAX_TOKENS
  for row in rows:
    assert row["context"].startswith(squadv2.INSTRUCTION)
    assert row["context"].endswith("\n\nA:")
    assert len(ctx.tokenizer.encode(row["context"])) + 1 <= room
  for name in ("stories", "random"):
    mine = [row for row in rows if row["model"] == name]
    f1 = one["metrics"]["f1"][name]
    assert f1["value"] == pytest.approx(np.mean([x["f1"] for x in mine]))
    assert f1["n"] == SOME
    assert "contexts cut on the left" not in one["counts"][name]
    assert one["counts"][name]["passages cut at their end, to fit"] > 0
    # None can say that there is no answer but by saying nothing, or "a.".
    without = [
      not spans.squad_normalised(x["sample"])
      for x in mine
      if not x["is_answered"]
    ]
    exact = one["metrics"]["em_unanswerable"][name]
    assert exact["value"] == pytest.approx(np.mean(without))
  argv = ["score", "--task=squadv2", f"--samples={tmp_path / 'squadv2.jsonl'}"]
  monkeypatch.setattr("sys.argv", [*argv, "--by=model", "--json"])
  capsys.readouterr()
  score.main()
  for line in capsys.readouterr().out.splitlines():
    said = sets_answering_test.json.loads(line)
    mine = one["metrics"][said["metric"]][said["group"]["model"]]
    assert said["value"] == pytest.approx(100 * mine["value"])


def test_the_devices_change_no_answer(context, tmp_path):
  measure([given(context, "stories")], tmp_path / "one")
  measure([given(context, "stories", data=2, fsdp=4)], tmp_path / "eight")
  assert rows_of(tmp_path / "one") == rows_of(tmp_path / "eight")
  results = storage.read_json(tmp_path / "eight" / running.RESULTS)
  assert results["sets"]["squadv2"]["counts"]["stories"]


def test_prompts_fill_what_is_read(context):
  """A cut prompt has no more room than for some words."""
  ctx, _ = context
  model = sets_answering_test.toy_models.Model(
    reach=ctx.policy.config.context_length
  )
  model.lengths = lambda texts: [len(ctx.tokenizer.encode(x)) for x in texts]
  passages = squadv2._passages(
    str(PUBLIC / "squad_v2_cs224n_split" / "dev-v2.0.json")
  )
  asked = [one.prompt(0, 0) for one in passages[:100]]
  room = model.room(squadv2.MAX_TOKENS)
  kept = prompts.fitted(model, asked, squadv2.MAX_TOKENS)
  sizes = model.lengths([one.text for one in kept])
  cut = [size for a, b, size in zip(asked, kept, sizes) if a != b]
  assert max(sizes) <= room
  assert len(cut) > 10
  assert np.mean(cut) > room - 10
