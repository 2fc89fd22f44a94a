"""Steps 2 and 3 iterated: which stages there are, and that they run."""

import json
import re
import shutil
import signal
import time

import pytest
from etils import epath
from ml_collections import ConfigDict

from experiments import iterated
from instruct_jax.base import errors, keys
from instruct_jax.runs import plan, references
from tests import built, chain_test, tiers

EXPERIMENTS = epath.Path(iterated.__file__).parent
FIRST = (
  *("dataset-test", "pretrain-test", "sft-test", "rankings-test", "rm-test"),
  *("select-test", "ppo_ptx-test"),
)


def planned(root, reference="iterated.py:test", **changes):
  default, source = references.load_config(reference, EXPERIMENTS)
  config = default.copy_and_resolve_references()
  config.update_from_flattened_dict(changes)
  overrides = plan.overrides_of(config, default)
  return plan.plan(config, source, epath.Path(root), overrides)


def needs(stage):
  return {
    each.name: {name: need.folder.name for name, need in each.needs.items()}
    for each in plan.in_order(stage)
  }


def digests(stage):
  return {each.name: each.digest for each in plan.in_order(stage)}


def test_the_chain_of_two_rounds(tmp_path):
  found = needs(planned(tmp_path))
  assert tuple(found) == (
    *FIRST,
    *("candidates-test-round2", "rankings-test-round2", "rm-test-round2"),
    "iterated-test",
  )
  assert found["candidates-test-round2"] == {
    "data": "dataset-test",
    "sft": "sft-test",
    "policy": "ppo_ptx-test",
    "rankings": "rankings-test",
    "gpt": "pretrain-test",
  }
  assert found["rankings-test-round2"] == {
    "data": "dataset-test",
    "candidates": "candidates-test-round2",
    "rankings": "rankings-test",
  }
  assert found["rm-test-round2"] == {
    "data": "dataset-test",
    "policy": "sft-test",
    "rankings": "rankings-test-round2",
  }
  assert found["iterated-test"] == {
    "data": "dataset-test",
    "policy": "select-test",
    "reward": "rm-test-round2",
    "sft": "select-test",
    "gpt": "pretrain-test",
    "ppo_ptx": "ppo_ptx-test",
    "reward_ppo_ptx": "rm-test",
    "rankings": "rankings-test-round2",
  }


def test_a_third_round_is_built_on_the_second(tmp_path):
  two = digests(planned(tmp_path))
  stage = planned(tmp_path, "iterated.py:test-round3")
  three, found = digests(stage), needs(stage)
  more = {f"{x}-test-round3" for x in ("candidates", "rankings", "rm")}
  assert set(three) - set(two) == {*more, "iterated-test-round3"}
  assert {name: three[name] for name in two} == two
  assert found["candidates-test-round3"]["policy"] == "iterated-test"
  assert found["candidates-test-round3"]["rankings"] == "rankings-test-round2"
  assert found["rankings-test-round3"]["rankings"] == "rankings-test-round2"
  last = found["iterated-test-round3"]
  assert (last["ppo_ptx"], last["round2"]) == ("ppo_ptx-test", "iterated-test")
  assert last["reward_round2"] == "rm-test-round2"
  section = stage.config.evaluation
  names = {"gpt", "prompted_gpt", "sft", "ppo_ptx", "round2", "iterated"}
  names |= {"flan", "t0"}
  assert set(section.subjects) == names
  assert section.subjects.iterated.run == ""
  assert dict(section.reward_models) == {
    "ppo_ptx": "reward_ppo_ptx",
    "round2": "reward_round2",
    "iterated": "reward",
  }


def test_the_first_round_is_ppo_ptx(tmp_path):
  whole = digests(planned(tmp_path))
  alone = digests(planned(tmp_path, "ppo_ptx.py:test"))
  assert tuple(alone) == FIRST
  assert {name: whole[name] for name in FIRST} == alone


def test_what_passes_down(tmp_path):
  plain = digests(planned(tmp_path))
  seeded = planned(tmp_path, seed=3)
  names = {f"{name}-seed3" for name in plain} - {"dataset-test-seed3"}
  assert set(digests(seeded)) == names | {"dataset-test"}
  fewer = planned(tmp_path, **{"candidates.train": 16})
  before = set(plain) - set(FIRST)
  moved = {n for n, d in digests(fewer).items() if plain[n] != d}
  assert moved == before  # of round 1, nothing
  named = {s.name: s.config for s in plan.in_order(fewer)}
  assert named["candidates-test-round2"].candidates.train == 16
  assert named["rankings-test"].rankings.train == 48


def test_a_policy_may_go_on_from_the_round_before(tmp_path):
  stage = planned(tmp_path, **{"needs.policy": "ppo_ptx.py:test"})
  found = needs(stage)["iterated-test"]
  assert found["policy"] == found["ppo_ptx"] == "ppo_ptx-test"
  assert found["sft"] == "select-test"


def test_only_rankings_and_what_follows_depend_on_who_ranks(tmp_path):
  plain = digests(planned(tmp_path))
  other = planned(tmp_path, **{"rankings.labeler": "reward"})
  assert needs(other)["rankings-test-round2"]["labeler"] == "rm-test"
  moved = {n for n, d in digests(other).items() if plain[n] != d}
  assert moved == {"rankings-test-round2", "rm-test-round2", "iterated-test"}


def test_peoples_ranks_count_by_their_content(tmp_path):
  def ranked(name, text):
    path = tmp_path / name
    path.write_text(text)
    changes = {"rankings.labeler": "people", "rankings.file": str(path)}
    return digests(planned(tmp_path / "runs", **changes))

  first, again = ranked("a.jsonl", "one"), ranked("b.jsonl", "one")
  assert first == again
  moved = {n for n, d in ranked("a.jsonl", "two").items() if first[n] != d}
  assert moved == {"rankings-test-round2", "rm-test-round2", "iterated-test"}


@pytest.mark.parametrize(
  ("variant", "message"),
  [
    ("test-round0", r"round0.* from the second on.* ppo_ptx\.py:test"),
    ("test-round1", r"round1.* from the second on.* ppo_ptx\.py:test"),
    ("test-round-1", "from the second on"),
    ("tset", "Did you mean 'test'"),
    ("tset-round3", "Did you mean 'test'"),
    ("rm-tset-round2", "Did you mean 'test'"),
    ("test-round21", "20 rounds are the most"),
    ("test-round99999999", "20 rounds are the most"),
    ("rm-test-round" + "9" * 5000, "20 rounds are the most"),
    ("test-round", "unknown variant of iterated.py 'test-round'"),
  ],
)
def test_rounds_that_are_none(variant, message):
  with pytest.raises(errors.UserError, match=message):
    iterated.get_config(variant)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rankings.labeler": "peeple"}, "Did you mean 'people'"),
    ({"rankings.labeler": "no_such_module:rank"}, "no module 'no_such_module'"),
    ({"rankings.labeler": "json:no_such"}, "no_such"),
    ({"rankings.file": "a.jsonl"}, "labeler=people, not world"),
    ({"rankings.model": "sft.py:test", "rankings.labeler": "reward"},
     "hands on policy, where a reward"),
    ({"rankings.model": "/no/run", "rankings.labeler": "reward"},
     r"rankings\.model.*not a run"),
    ({"candidates.sources.policy.share": 0.5}, "add up to 1"),
    ({"candidates.sources.policy.policy": "polici"}, "Did you mean 'policy'"),
    ({"candidates.train": 0}, r"candidates\.train=0"),
    ({"candidates.train": 5000}, r"candidates\.train=5000.*200 prompts"),
    ({"candidates.k_max": 12}, r"data\.k_max"),
    ({"needs.ppo_ptx": "/no/run"}, "needs.ppo_ptx.*not a run"),
    ({"evaluation.reward_models.ppo_ptx": "rewardd"}, "reward"),
  ],
)  # fmt: skip
def test_what_cannot_work_is_said_before_anything_is_built(
  changes, message, tmp_path
):
  with pytest.raises(errors.UserError, match=message):
    planned(tmp_path / "runs", **changes)
  assert not (tmp_path / "runs").exists()


def test_a_stage_that_cannot_be_is_named_as_it_is_needed(tmp_path):
  with pytest.raises(errors.UserError) as caught:
    planned(tmp_path, **{"rankings.labeler": "peeple"})
  assert str(caught.value).startswith(
    "iterated.py:rankings-test-round2, which this needs: "
  )


def test_every_stage_is_looked_at_once_however_many_need_it():
  """Rounds share their needs: all ways to the first are 2 to the 40th."""
  below = None
  for n in range(41):
    needs = {} if below is None else {"a": below, "b": below}
    below = plan.Stage(ConfigDict(), epath.Path(f"/runs/{n}"), needs, "")
  order = [stage.folder.name for stage in plan.in_order(below)]
  assert order == [str(n) for n in range(41)]


@pytest.mark.parametrize("key", ["rankings.round", "candidates.round"])
def test_the_variant_says_the_round(key):
  known = keys.flatten(iterated.get_config("test"))
  with pytest.raises(errors.UserError, match="the variant says which round"):
    keys.check([key], known)
  keys.check(["rankings.labeler", "candidates.train"], known)


def test_a_file_for_every_round(tmp_path):
  changes = {"rankings.labeler": "people", "rankings.file": "a.jsonl"}
  planned(tmp_path, **changes)
  with pytest.raises(errors.UserError, match=r"with \{round\} in the name"):
    planned(tmp_path, "iterated.py:test-round3", **changes)
  changes["rankings.file"] = "a{round}.jsonl"
  planned(tmp_path, "iterated.py:test-round3", **changes)


CONFIG = "experiments/iterated.py:test"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
  """The chain of two rounds, the second run once without a disturbance."""
  workdir = tmp_path_factory.mktemp("whole")
  built.copied(tmp_path_factory, workdir)
  code, output = chain_test.finish(workdir, cache, config=CONFIG)
  assert code == 0, output
  started = [
    f"{name}-test" for name in re.findall(r"(\w+)-test: starts", output)
  ]
  assert not set(started) & set(FIRST), started
  return workdir


def results(workdir, stage):
  return json.loads((workdir / stage / "results.json").read_text())


def records(workdir, stage, split):
  lines = (workdir / stage / f"{split}.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_two_rounds_end_to_end(whole):
  first = records(whole, "rankings-test", "train")
  both = records(whole, "rankings-test-round2", "train")
  assert both[: len(first)] == first
  new = both[len(first) :]
  assert len(new) == 48
  assert not {r["prompt"] for r in new} & {r["prompt"] for r in first}
  assert {r["round"] for r in new} == {2}
  share = [s == "policy" for r in new for s in r["sources"]]
  assert 0.2 < sum(share) / len(share) < 0.5
  found = results(whole, "iterated-test")
  assert found["evaluations"]["reward_models"] == "measured"
  metrics = found["metrics"]
  for a, b in (("iterated", "sft"), ("iterated", "ppo_ptx")):
    assert 0 <= metrics[f"preference/{a}_over_{b}/training"] <= 1
  # The subject is the run that ppo_ptx.py alone has.
  rows = found["tables"]["reward_models"]
  assert {row["model"] for row in rows} == {"ppo_ptx", "iterated"}
  assert {"all", "round1/sft", "round2/sft"} <= {r["comparisons"] for r in rows}
  assert (
    results(whole, "rm-test-round2")["parameters_digest"]
    != (results(whole, "rm-test")["parameters_digest"])
  )


@pytest.mark.slow
@pytest.mark.parametrize("stage", tiers.often(("candidates", "rm"), "rm"))
def test_a_killed_round_goes_on_to_the_same_parameters(
  stage, whole, cache, tmp_path
):
  """Round 1 is taken from the finished chain; `kill -9` within round 2."""
  for name in FIRST:
    shutil.copytree(whole / name, tmp_path / name)
  unmeasured = "--config.evaluation.suite=none"  # of no stage's digest
  process = chain_test.start(tmp_path, cache, unmeasured, config=CONFIG)
  part = {"candidates": "chunks/train-00001.json", "rm": "checkpoints/2"}
  path = tmp_path / f"{stage}-test-round2" / part[stage]
  end = time.monotonic() + 300
  while not path.exists() and time.monotonic() < end:
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not (tmp_path / "iterated-test" / "results.json").exists()
  code, output = chain_test.finish(tmp_path, cache, unmeasured, config=CONFIG)
  assert code == 0, output
  for name in ("rm-test-round2", "iterated-test"):
    here, there = (results(d, name) for d in (tmp_path, whole))
    assert here["parameters_digest"] == there["parameters_digest"]
    assert here["config_digest"] == there["config_digest"]


@pytest.mark.slow
def test_people_rank_between_two_commands(whole, cache, tmp_path):
  for name in (*FIRST, "candidates-test-round2"):
    shutil.copytree(whole / name, tmp_path / name)
  ranked = tmp_path / "ranked-2.jsonl"
  flags = (
    "--config.rankings.labeler=people",
    f"--config.rankings.file={tmp_path}/ranked-{{round}}.jsonl",
    "--config.evaluation.suite=none",
  )
  code, output = chain_test.finish(tmp_path, cache, *flags, config=CONFIG)
  assert code == 2
  lists = tmp_path / "candidates-test-round2" / "to_rank.jsonl"
  assert str(lists) in output.replace("\n", "")
  assert "ranked-2.jsonl" in output
  assert "Traceback" not in output
  rows = [json.loads(line) for line in lists.read_text().splitlines()]
  for row in rows:  # the shorter, the better
    order = sorted(set(map(len, row["responses"])))
    row["ranks"] = [order.index(len(x)) + 1 for x in row["responses"]]
  ranked.write_text("".join(json.dumps(row) + "\n" for row in rows))
  code, output = chain_test.finish(tmp_path, cache, *flags, config=CONFIG)
  assert code == 0, output
  new = [
    r
    for r in records(tmp_path, "rankings-test-round2", "train")
    if r.get("round") == 2
  ]
  assert {r["labeler"] for r in new} <= {"people", "nobody"}
  for record in new:
    by_length = sorted(zip(map(len, record["responses"]), record["ranks"]))
    assert [rank for _, rank in by_length] == sorted(record["ranks"])
