"""The built dataset: same bytes, no contamination, kill and resume."""

import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import ml_collections
import pytest

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.worlds.microworld import (
  answers,
  builder,
  contamination,
  corpus,
  prompts,
  tables,
  tasks,
)

SIZES = {
  "pretraining": (1500, 50, 50),
  "demonstrations": (200, 50, 50),
  "prompts": (500, 150, 150),
}


def config(**changes):
  data = {"world_seed": 0, "quality": 0.75, "vocab_size": 1024, "sizes": SIZES}
  data["start"] = "reference"
  return ml_collections.ConfigDict({"data": data | changes})


def digests(folder):
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(pathlib.Path(folder).rglob("*"))
    if path.is_file()
    and (".array_record" in path.name or path.suffix == ".model")
  }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  return folder, builder.build(config(), folder)


def test_rows_and_fields(built):
  folder, summary = built
  for kind, counts in SIZES.items():
    for split, count in zip(tables.SPLITS, counts):
      rows = builder.source(folder, kind, split)
      assert len(rows) == count == summary[f"{kind}/{split}_rows"]
      assert set(rows[0]) == set(builder.FIELDS[kind])
      assert rows[-1] == list(rows)[-1]
  assert summary["prompts/train_longest"] <= prompts.LONGEST
  with pytest.raises(IndexError):
    builder.source(folder, "prompts", "test")[150]


def test_no_validation_or_test_prompt_or_passage_is_in_training_text(built):
  folder, _ = built
  training = [
    row["text"]
    for split in tables.SPLITS
    for row in builder.source(folder, "pretraining", split)
  ]
  for kind in ("demonstrations", "prompts"):
    rows = builder.source(folder, kind, "train")
    training += [row["prompt"] for row in rows]
  for split in ("validation", "test"):
    cores = contamination.held_out(split)
    for kind in ("demonstrations", "prompts"):
      cores |= {row["core"] for row in builder.source(folder, kind, split)}
    assert len(cores) > 500
    assert contamination.find(cores, training) == set()


def test_no_more_contamination_in_a_longer_corpus():
  rng = random.Random(1)
  texts = [corpus.document(rng)["text"] for _ in range(12_000)]
  for split in ("validation", "test"):
    cores = contamination.held_out(split)
    cores |= {p.core for p, _ in prompts.sample(rng, split, 2000)}
    assert contamination.find(cores, texts) == set()
  # The same search does find what is there.
  cores = {p.core for p, _ in prompts.sample(rng, "train", 1000)}
  assert len(contamination.find(cores, texts)) > 100


def test_users_are_in_one_split(built):
  folder, _ = built
  users = [
    {row["user"] for row in builder.source(folder, "prompts", split)}
    for split in tables.SPLITS
  ]
  assert not users[0] & users[1]
  assert not users[0] & users[2]
  assert not users[1] & users[2]


def test_the_tokenizer_covers_prompts_answers_and_tasks(built):
  folder, summary = built
  tokenizer = tokenizers.load(folder / "tokenizer")
  assert tokenizer.vocab_size == summary["tokenizer/vocab_size"]
  rng = random.Random(0)
  for prompt, _ in prompts.sample(rng, "test", 500):
    text = tables.PROMPTED_TEMPLATE.format(prompt=prompt.text)
    for said in (text, answers.ideal(rng, prompt.spec)):
      assert tokenizer.unknown_words(said) == []
    row = tables.TEMPLATE.format(prompt=prompt.text)
    assert len(tokenizer.encode(row)) <= 30
  for name in tasks.TASKS:
    for item in tasks.examples(name, "test", 20):
      assert not tokenizer.unknown_words(f"{item.prompt} {item.answer}")


def test_demonstrations_have_the_quality_asked_for(built):
  rows = list(builder.source(built[0], "demonstrations", "train"))
  ideal = sum(row["quality"] == "ideal" for row in rows)
  assert ideal / len(rows) == pytest.approx(0.75, abs=0.1)


def test_building_again_does_nothing_and_elsewhere_gives_the_same_bytes(
  built, tmp_path
):
  folder, summary = built
  before = digests(folder)
  assert builder.build(config(), folder) == summary
  builder.build(config(), tmp_path)
  assert digests(tmp_path) == before == digests(folder)
  assert len(before) == 10


def test_other_settings_build_anew(tmp_path):
  small = dict.fromkeys(SIZES, (40, 10, 10))
  builder.build(config(sizes=small), tmp_path)
  before = digests(tmp_path)
  builder.build(config(sizes=small, world_seed=1), tmp_path)
  after = digests(tmp_path)
  assert set(before) == set(after)
  assert before != after


def test_a_vocabulary_that_is_too_small_is_a_clear_error(tmp_path):
  small = dict.fromkeys(SIZES, (40, 10, 10))
  with pytest.raises(errors.UserError, match="vocab_size=50"):
    builder.build(config(sizes=small, vocab_size=50), tmp_path)
  assert not (tmp_path / "summary.json").exists()


SCRIPT = """
import sys, ml_collections
from instruct_jax.worlds.microworld import builder
sizes = {kind: (400, 20, 20) for kind in builder.FIELDS}
data = dict(world_seed=0, quality=0.75, vocab_size=1024, sizes=sizes)
data["start"] = "reference"
builder.build(ml_collections.ConfigDict({"data": data}), sys.argv[1])
assert "tensorflow" not in sys.modules
print("done")
"""


def start(folder):
  return subprocess.Popen(
    [sys.executable, "-c", SCRIPT, str(folder)],
    stdout=subprocess.PIPE,
    text=True,
    env=dict(os.environ),
  )


def test_killed_builds_resume_to_the_same_bytes_without_tensorflow(tmp_path):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  process = start(whole)
  assert process.communicate(timeout=120)[0].strip() == "done"
  for name in ("pretraining", "demonstrations", "tokenizer"):
    process = start(killed)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
      seen = "tokenizer" if name == "tokenizer" else f"microworld/{name}"
      if (killed / seen).exists():
        process.send_signal(signal.SIGKILL)
        break
      time.sleep(0.001)
    process.communicate(timeout=60)
  process = start(killed)
  assert process.communicate(timeout=120)[0].strip() == "done"
  assert digests(killed) == digests(whole)
  names = {str(p.relative_to(killed)) for p in killed.rglob("*")}
  assert names == {str(p.relative_to(whole)) for p in whole.rglob("*")}
