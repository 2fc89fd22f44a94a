"""Mixtures of tasks: shares, splits, what the files may be."""

import collections
import itertools
import json
import re
import signal
import time

import pytest
from etils import epath

from experiments import common, instruction_tuning
from instruct_jax import worlds
from instruct_jax.base import errors
from instruct_jax.data.read import kinds
from instruct_jax.evals import suite
from instruct_jax.runs import config_checks, needed, plan
from instruct_jax.worlds import mixture
from instruct_jax.worlds.microworld import (
  contamination,
  mixtures,
  passages,
  prompts,
  tables,
  vocabulary,
)
from tests import built, chain_test, evals_toys

SPLITS = ("train", "validation", "test")


def config_of(variant="mixture-test-flan", **changes):
  config = instruction_tuning.get_config(variant).unlock()
  config.data.sizes.update(evals_toys.SIZES)
  config.update_from_flattened_dict(changes)
  return config.lock()


def build(folder, config):
  world = worlds.of(config.data)
  folders = {"data": evals_toys.world()}
  found = mixture.build(config, world, epath.Path(folder), folders)
  lines = {
    split: [
      json.loads(line)
      for line in (folder / f"{split}.jsonl").read_text().splitlines()
    ]
    for split in SPLITS
    if (folder / f"{split}.jsonl").exists()
  }
  return found, lines


def drawn(name, split, count=25):
  return list(mixtures.rows(name, split, count, seed=7))


@pytest.fixture(scope="module")
def microworld():
  return {
    (name, split): drawn(name, split)
    for name, split in itertools.product(mixtures.MIXTURES, SPLITS)
  }


def test_every_task_is_asked_in_the_worlds_words(microworld):
  known = vocabulary.words()
  for (name, split), rows in microworld.items():
    counts = collections.Counter(row["task"] for row in rows)
    assert set(counts) == set(mixtures.MIXTURES[name]), (name, split)
    assert max(counts.values()) == 25
    for row in rows:
      if row["task"] in ("sentiment", "to_zorp", "to_english"):
        assert tables.split_of(row["prompt"]) == split  # a user may ask so
      words = f"{row['prompt']} {row['response']}".split(" ")
      assert set(words) <= known, row
      assert len(row["prompt"].split(" ")) <= prompts.LONGEST
      assert len(row["response"].split(" ")) <= 14


def test_answers_are_those_of_the_items(microworld):
  """By rules of their own: what a passage says, and what comes next."""
  rows = [r for of in microworld.values() for r in of]
  looked_up = [
    (row, found)
    for row in rows
    if row["task"] == "reading"
    for found in [re.search(r"where does (\w+) live", row["prompt"])]
    if found
  ]
  assert looked_up
  for row, found in looked_up:
    silent = f"{found[1]} lives in" not in row["prompt"]
    if silent:
      assert row["response"] == "the text does not say ."
    else:
      assert row["response"].removesuffix(" .") in row["prompt"]
      assert row["response"].startswith(f"{found[1]} lives in")
  order = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
  ]
  for row in rows:
    if row["task"] == "sequence":
      shown = [order.index(w) for w in row["prompt"].split() if w in order]
      step = shown[1] - shown[0]
      assert order.index(row["response"]) == shown[-1] + step


def test_flan_translates_and_t0_does_not(microworld):
  of = {name: {r["task"] for r in microworld[name, "train"]}
        for name in mixtures.MIXTURES}  # fmt: skip
  assert {"to_zorp", "to_english"} <= of["flan"]
  assert not {"to_zorp", "to_english"} & of["t0"]
  forms = {
    name: len(tasks["reading"].templates)
    for name, tasks in mixtures.MIXTURES.items()
  }
  assert forms["t0"] > forms["flan"]


@pytest.mark.parametrize("name", mixtures.MIXTURES)
def test_nothing_that_is_held_out_is_trained_on(name, microworld):
  texts = [r["prompt"] for r in microworld[name, "train"]]
  texts += [f"{r['prompt']} {r['response']}" for r in microworld[name, "train"]]
  for split in ("validation", "test"):
    assert contamination.find(contamination.held_out(split), texts) == set()
    shared = {r["prompt"] for r in microworld[name, split]}
    assert not shared & set(texts)


def test_passages_keep_to_their_split(microworld):
  says = {
    tables.say(name, relation, value): (name, relation, value)
    for name in tables.STRANGERS
    for relation, of in tables.RELATIONS.items()
    for value in of.values
  }
  checked = 0
  for (_, split), rows in microworld.items():
    for row in rows:
      if row["task"] in ("reading", "extraction", "summary"):
        parts = re.split(r" : | \. |, |\? ", row["prompt"] + " ")
        facts = [says[p.strip()] for p in parts if p.strip() in says]
        if len(facts) == 3:
          assert passages.split_of(facts) == split, row
          checked += 1
  assert checked > 100


def test_rows_depend_on_the_worlds_seed_alone():
  assert drawn("t0", "train", 3) == drawn("t0", "train", 3)
  other = list(mixtures.rows("t0", "train", 3, seed=8))
  assert other != drawn("t0", "train", 3)


def test_a_mixture_of_the_microworld(tmp_path):
  (figures, tables_), lines = build(tmp_path, config_of())
  assert set(lines) == set(SPLITS)
  assert len(lines["train"]) == 7 * 6  # of 7 tasks, cap 6 of 10 rows each
  assert figures["mixture/rows/train"] == 42
  assert figures["mixture/tasks"] == 7
  for row in tables_["mixture"]:
    assert (row["rows there"], row["taken"]) == (10, 6)
    assert row["share"] == pytest.approx(1 / 7)
  order = [row["task"] for row in lines["train"]]
  assert order != sorted(order)
  again = tmp_path / "again"
  again.mkdir()
  assert build(again, config_of())[1] == lines


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def numbered(count, start=0):
  return [
    {"prompt": f"what is {n} ?", "response": f"a number , {n}"}
    for n in range(start, start + count)
  ]


def of_files(folder, **changes):
  return config_of(
    "mixture-files-t0",
    **{
      "mixtures.t0": f"{folder}/*.jsonl",
      "data.prompts": "",
      "data.validation_fraction": 0.2,
      "data.test_fraction": 0.1,
      **changes,
    },
  )


def test_shares_are_in_proportion_to_rows_up_to_the_cap(tmp_path):
  write(tmp_path / "few.jsonl", numbered(20))
  write(tmp_path / "many.jsonl", numbered(400, 1000))
  config = of_files(tmp_path, **{"mixtures.cap": 50})
  out = tmp_path / "out"
  out.mkdir()
  (figures, found), lines = build(out, config)
  split = {"validation_fraction": 0.2, "test_fraction": 0.1}
  there = {
    name: sum(
      kinds.split_of(r, "demonstrations", **split) == "train" for r in rows
    )
    for name, rows in (("few", numbered(20)), ("many", numbered(400, 1000)))
  }
  assert there["few"] < 50 < there["many"]
  rows = {row["task"]: row for row in found["mixture"]}
  assert rows["few"]["taken"] == there["few"]
  assert (rows["many"]["rows there"], rows["many"]["taken"]) == (
    there["many"],
    50,
  )
  total = there["few"] + 50
  assert rows["few"]["share"] == pytest.approx(there["few"] / total)
  assert figures["mixture/rows/train"] == total == len(lines["train"])
  every = {r["prompt"]: name for name, of in lines.items() for r in of}
  assert len(every) == sum(map(len, lines.values()))
  for prompt, name in every.items():
    record = {"prompt": prompt}
    assert kinds.split_of(record, "demonstrations", **split) == name
  picked = {r["prompt"] for r in lines["train"] if r["task"] == "many"}
  spread = sorted(int(prompt.split()[2]) for prompt in picked)
  assert spread[0] < 1080  # not the first ones, nor the last
  assert spread[-1] > 1320


def test_t0_as_it_is_published(tmp_path):
  rows = [
    {
      "prompt": f"{r['prompt']}\n",
      "completion": f"{r['response']}<|endoftext|>",
    }
    for r in numbered(40)
  ]
  write(tmp_path / "ag_news_classify.jsonl", rows)
  named = [row | {"task": "mine"} for row in numbered(40, 100)]
  write(tmp_path / "other.jsonl", named)
  out = tmp_path / "out"
  out.mkdir()
  _, lines = build(out, of_files(tmp_path))
  every = [row for of in lines.values() for row in of]
  assert {row["task"] for row in every} == {"ag_news_classify", "mine"}
  expected = {(r["prompt"] + "\n", r["response"]) for r in numbered(40)}
  found = {(r["prompt"], r["response"]) for r in every if r["task"] != "mine"}
  assert found == expected


def test_an_empty_file_is_listed(tmp_path, caplog):
  write(tmp_path / "full.jsonl", numbered(40))
  write(tmp_path / "none.jsonl", [])
  out = tmp_path / "out"
  out.mkdir()
  (figures, found), _ = build(out, of_files(tmp_path))
  rows = {row["task"]: row["taken"] for row in found["mixture"]}
  assert rows["none"] == 0 < rows["full"]
  assert figures["mixture/tasks"] == 1
  assert "none.jsonl: empty" in caplog.text


def test_the_same_row_twice_counts_once(tmp_path):
  write(tmp_path / "a.jsonl", numbered(60) + numbered(60))
  out = tmp_path / "out"
  out.mkdir()
  _, lines = build(out, of_files(tmp_path))
  every = [row["prompt"] for of in lines.values() for row in of]
  assert sorted(every) == sorted({r["prompt"] for r in numbered(60)})


def test_prompts_that_are_kept_for_tests_are_not_trained_on(tmp_path):
  data = tmp_path / "data"
  data.mkdir()
  split = {"validation_fraction": 0.2, "test_fraction": 0.1}
  train = [
    r
    for r in numbered(200)
    if kinds.split_of(r, "demonstrations", **split) == "train"
  ]
  write(data / "prompts-validation.jsonl", [{"prompt": train[0]["prompt"]}])
  write(data / "prompts-test.jsonl", [{"prompt": train[1]["prompt"] + " "}])
  folder = tmp_path / "tasks"
  folder.mkdir()
  write(folder / "a.jsonl", numbered(200))
  config = of_files(folder, **{"data.prompts": "x.jsonl"})
  figures, _ = mixture.build(
    config, worlds.of(config.data), epath.Path(tmp_path), {"data": data}
  )
  assert figures["mixture/held_out_elsewhere"] == 2
  assert figures["mixture/rows/train"] == len(train) - 2


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ('{"prompt": "a"}', r"a\.jsonl:1: .*response"),
    ('{"prompt": "a", "completion": 3}', r"a\.jsonl:1: .*completion"),
    ("", "no row in its train split"),
    ('{"prompt": "a", "response": "b", "split": "train"}',
     "no row in its validation split"),
  ],
)  # fmt: skip
def test_files_that_cannot_be_mixed(text, message, tmp_path):
  (tmp_path / "a.jsonl").write_text(text + "\n" if text else "")
  config = of_files(tmp_path)
  with pytest.raises(errors.UserError, match=message):
    mixture.build(config, worlds.of(config.data), epath.Path(tmp_path), {})
  assert not (tmp_path / "train.jsonl").exists() or "validation" in message


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("", r"mixtures\.t0 is empty"),
    ("none.jsonl", "none.jsonl"),
    ("{}/a.jsonl=0.5", "tasks of a mixture have no weights"),
  ],
)
def test_a_mixture_that_is_not_there(spec, message, tmp_path):
  write(tmp_path / "a.jsonl", numbered(3))
  text = {"data.pretraining": str(tmp_path / "a.jsonl")}
  config = of_files(tmp_path, **text, **{"mixtures.t0": spec.format(tmp_path)})
  with pytest.raises(errors.UserError, match=message):
    config_checks.check(config)


def planned(workdir, reference="ppo_ptx.py:test", **changes):
  name, _, variant = reference.partition(":")
  module = __import__(f"experiments.{name[:-3]}", fromlist=["get_config"])
  default = module.get_config(variant)
  config = module.get_config(variant).unlock()
  config.update_from_flattened_dict(changes)
  source = epath.Path(common.__file__).parent / name
  inherited = plan.overrides_of(config, default)
  return plan.plan(config.lock(), source, epath.Path(workdir), inherited)


def named(stage):
  return {each.folder.name: each for each in plan.in_order(stage)}


TUNED = {
  f"{stage}-test-{name}"
  for stage in ("mixture", "instruction_tuning", "select")
  for name in common.MIXTURES
}


def test_the_rows_are_built_where_they_are_asked_for(tmp_path):
  without = named(planned(tmp_path))
  assert not set(without) & TUNED
  left_out = suite.left_out(without["ppo_ptx-test"].config)
  assert set(left_out) == set(common.MIXTURES)
  every = planned(tmp_path, **{"evaluation.left_out": ()})
  found = named(every)
  assert set(found) - set(without) == TUNED
  # PPO is not trained anew for it.
  assert all(found[n].digest == without[n].digest for n in without)
  needs = {n: x.folder.name for n, x in found["select-test-t0"].needs.items()}
  assert needs == {
    "data": "dataset-test",
    "policy": "instruction_tuning-test-t0",
    "reward": "rm-test",
  }
  tuned = found["instruction_tuning-test-flan"]
  needs = {n: x.folder.name for n, x in tuned.needs.items()}
  assert needs == {
    "data": "dataset-test",
    "policy": "pretrain-test",
    "demonstrations": "mixture-test-flan",
  }
  one = planned(tmp_path, **{"evaluation.left_out": ("t0",)})
  assert set(named(one)) - set(without) == {
    name for name in TUNED if name.endswith("flan")
  }


def test_a_mixtures_files_and_cap_count_for_its_own_stages(tmp_path):
  everyone = {"evaluation.left_out": ()}
  before = named(planned(tmp_path, **everyone))
  capped = named(planned(tmp_path, **everyone, **{"mixtures.cap": 3}))
  moved = {n for n, x in capped.items() if before[n].digest != x.digest}
  assert moved == TUNED
  assert capped["mixture-test-t0"].config.mixtures.cap == 3
  path = tmp_path / "a.jsonl"
  write(path, numbered(9))
  files = {"mixtures.t0": str(path)}
  given = named(planned(tmp_path, **everyone, **files))
  moved = {n for n, x in given.items() if before[n].digest != x.digest}
  assert moved == {name for name in TUNED if name.endswith("t0")}
  write(path, numbered(10))
  other = named(planned(tmp_path, **everyone, **files))
  moved = {n for n, x in other.items() if given[n].digest != x.digest}
  assert moved == {name for name in TUNED if name.endswith("t0")}
  folder = tmp_path / "elsewhere"
  folder.mkdir()
  path.rename(folder / path.name)
  files = {"mixtures.t0": str(folder / path.name)}
  same = named(planned(tmp_path, **everyone, **files))
  assert all(other[n].digest == x.digest for n, x in same.items())


def test_rows_without_data_are_listed_as_not_there(tmp_path):
  config = __import__("experiments.ppo_ptx", fromlist=["x"]).get_config("files")
  assert config.evaluation.left_out == ()
  assert suite.left_out(config) == {
    name: f"no such data: config.mixtures.{name} is empty"
    for name in common.MIXTURES
  }
  with config.unlocked():
    config.mixtures.flan = "tasks/*.jsonl"
  assert set(suite.left_out(config)) == {"t0"}
  assert needed.needs_left_out(config) == {"t0"}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"evaluation.left_out": ("flam",)}, "Did you mean 'flan'"),
    ({"evaluation.left_out": ("sft",)}, "left_out has sft, with which"),
  ],
)
def test_who_cannot_be_left_out(changes, message, tmp_path):
  with pytest.raises(errors.UserError, match=message):
    planned(tmp_path, **changes)


def test_variants_have_one_name():
  config = instruction_tuning.get_config("tiny")
  assert config.variant == "tiny-flan"
  assert config == instruction_tuning.get_config("tiny-flan")
  t0 = instruction_tuning.get_config("175b-t0")
  assert (t0.batch.demonstrations, t0.optimizer.policy.learning_rate) == (
    128,
    4e-6,
  )
  flan = instruction_tuning.get_config("175b")
  assert flan.batch.demonstrations == 64
  assert flan.mixtures.cap == 3000
  assert set(t0.evaluation.subjects) == {"gpt", "prompted_gpt", "sft", "t0"}
  with pytest.raises(errors.UserError, match="Did you mean 'tiny-t0'"):
    instruction_tuning.get_config("tiny-to")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_fine_tunes_are_rows_of_the_evaluation(tmp_path, tmp_path_factory):
  """Killed while one is trained, and then to the end."""
  built.copied(tmp_path_factory, tmp_path, *built.STAGES[:-1])
  cache = tmp_path / "cache"
  flags = ("--config.evaluation.left_out=()",)
  process = chain_test.start(tmp_path, cache, *flags)
  saved = tmp_path / "instruction_tuning-test-flan" / "checkpoints" / "2"
  end = time.monotonic() + 300
  while not saved.exists() and time.monotonic() < end:
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  code, output = chain_test.finish(tmp_path, cache, *flags)
  assert code == 0, output
  found = chain_test.results(tmp_path, "ppo_ptx")
  for name in common.MIXTURES:
    assert 0 <= found["metrics"][f"preference/{name}_over_sft/training"] <= 1
    picked = json.loads(
      (tmp_path / f"select-test-{name}" / "results.json").read_text()
    )
    scores = {
      int(key.rpartition("/")[2]): value
      for key, value in picked["metrics"].items()
      if key.startswith("select/score/")
    }
    assert picked["product"]["step"] == max(scores, key=scores.get)
    assert len(scores) == 2
  rows = {row["subject"]: row for row in found["tables"]["subjects"]}
  assert {"flan", "t0", "prompted_gpt"} <= set(rows)
  assert "left_out" not in found["tables"]
  report = (tmp_path / "ppo_ptx-test" / "report.html").read_text()
  assert "FLAN-style" in report
  assert "The prefix of prompted GPT" in report
