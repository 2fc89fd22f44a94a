"""The table of kinds: one entry more is one kind more; one way of cleaning."""

import json

import numpy as np
import pytest

from instruct_jax import tokenizers
from instruct_jax.data import inspect, prepare, written
from instruct_jax.data.batch import loader
from instruct_jax.data.clean import hygiene
from instruct_jax.data.read import kinds
from tests import data_toys

WORDS = ("the", "fox", "jumps", "over", "a", "lazy", "dog")


def write(path, records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(path)


def test_what_the_table_says_of_the_four_kinds():
  assert {name: kind.key for name, kind in kinds.KINDS.items()} == {
    "pretraining": "text",
    "demonstrations": "prompt",
    "prompts": "prompt",
    "rankings": "prompt",
  }
  several = [name for name, kind in kinds.KINDS.items() if kind.has_several]
  assert several == ["rankings"]
  for kind in kinds.KINDS.values():
    assert kind.response in ("", *kind.required)


def test_a_kind_is_one_entry(tmp_path, monkeypatch):
  entry = kinds.Kind(
    {"prompt": str, "reply": str}, response="reply", can_pack=True
  )
  monkeypatch.setitem(kinds.KINDS, "letters", entry)
  texts = [{"text": " ".join(WORDS[n % 5 :]) + f" {n}"} for n in range(40)]
  asked = [f"what does dog {n} of ann@example.com do?" for n in range(20)]
  letters = [{"prompt": text, "reply": "it sleeps"} for text in asked]
  answers = [{"prompt": text, "response": "it sleeps"} for text in asked]
  data = data_toys.section(
    pretraining=write(tmp_path / "texts.jsonl", texts),
    letters=write(tmp_path / "letters.jsonl", letters),
    demonstrations=write(tmp_path / "answers.jsonl", answers),
    validation_fraction=0.3,
    prompt_length=64,
    row_length=80,
    vocab_size=300,
    tokenizer="byte",
  )
  prepare.build(data_toys.config(data), tmp_path / "out")
  tokenizer, folders = tokenizers.load(tmp_path / "out"), {}
  folders["data"] = tmp_path / "out"
  for split in ("train", "validation"):
    for packed in (False, True):
      ours, theirs = (
        loader.make(data, tokenizer, kind, split, folders, packed=packed)
        for kind in ("letters", "demonstrations")
      )
      assert ours.counts == theirs.counts
      a, b = ours.take(slice(None)), theirs.take(slice(None))
      for name in a:
        np.testing.assert_array_equal(a[name], b[name])
  assert inspect.guess_kind([str(tmp_path / "letters.jsonl")]) == "letters"
  told = written.write(
    letters, "letters", hygiene.Settings(every_kind=True), tmp_path / "cleaned"
  )
  count = told["counts"]["pii_email"]
  assert count == told["rows"]["train"] > 0


@pytest.mark.parametrize("kind", ["demonstrations", "prompts", "rankings"])
def test_a_key_of_another_kind_moves_no_record(kind):
  fractions = {"validation_fraction": 0.4, "test_fraction": 0.3}
  for n in range(50):
    record = {"prompt": f"prompt {n}"}
    other = record | {"text": f"a text of its own, {n}"}
    split = kinds.split_of(record, kind, **fractions)
    assert kinds.split_of(other, kind, **fractions) == split


def test_what_is_inspected_is_what_is_trained_on(tmp_path):
  """`data --out` and the data set count and split prompts alike."""
  prompts = [
    {"prompt": f"{n % 60} of ann@example.com", "user": f"u{n % 13}"}
    for n in range(90)
  ]
  fractions = {"validation_fraction": 0.3, "test_fraction": 0.2}
  data = data_toys.section(
    prompts=write(tmp_path / "p.jsonl", prompts), per_user=4, **fractions
  )
  trained_on = data_toys.cleaned(data)
  settings = hygiene.Settings(per_user=4, every_kind=True, **fractions)
  told = written.write(prompts, "prompts", settings, tmp_path / "out")
  counts = trained_on.counts["prompts"]
  assert told["counts"] == counts
  assert counts["duplicates"] == 30
  gone = ("duplicates", "over_per_user", "held_out_elsewhere")
  assert counts["read"] == counts["kept"] + sum(counts[name] for name in gone)
  for split, records in trained_on.by_split["prompts"].items():
    path = tmp_path / "out" / f"prompts-{split}.jsonl"
    lines = path.read_text().splitlines()
    marked = [record | {"split": split} for record in records]
    assert [json.loads(line) for line in lines] == marked
