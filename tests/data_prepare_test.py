"""The data set of people's own files, built, built again and refused."""

import json
import pathlib

import ml_collections
import pytest

from instruct_jax import tokenizers
from instruct_jax.base import errors, interrupt, progress
from instruct_jax.data import prepare
from instruct_jax.data.batch import loader
from instruct_jax.data.read import kinds, sources

WORDS = ["the", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sleeps"]


def write(path, records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(path)


@pytest.fixture
def config(tmp_path):
  texts = [
    {"text": " ".join(WORDS[(n + i * n) % 9] for i in range(30)) + f" {n}."}
    for n in range(60)
  ]
  prompts = [{"prompt": f"what does dog {n} do?"} for n in range(40)]
  rankings = [
    {**p, "responses": ["sleeps", "it jumps"], "ranks": [1, 2]} for p in prompts
  ]
  data = {
    "source": "files",
    "start": "reference",
    "template": "user: {prompt}\nassistant: ",
    "prompt_length": 64,
    "response_length": 8,
    "row_length": 16,
    "k_max": 2,
    "vocab_size": 400,
    "tokenizer": "unigram",
    "validation_fraction": 0.2,
    "test_fraction": 0.1,
    "packing": False,
    "loss_on": "all",
    "prefix": 128,
    "per_user": 200,
    "remove_pii": True,
    "tokenizer_sample": 10**6,
    "pretraining": write(tmp_path / "texts.jsonl", texts),
    "prompts": write(tmp_path / "prompts.jsonl", prompts),
    "demonstrations": write(
      tmp_path / "demonstrations.jsonl",
      [{**prompt, "response": "it sleeps"} for prompt in prompts],
    ),
    "rankings": write(tmp_path / "rankings.jsonl", rankings),
  }
  return ml_collections.ConfigDict({"data": data})


def test_build(config, tmp_path):
  summary = prepare.build(config, tmp_path / "out")
  tokenizer = tokenizers.load(tmp_path / "out")
  assert summary["vocab_size"] == tokenizer.vocab_size <= 400
  assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
  for kind in kinds.KINDS:
    total = 0
    for split in kinds.SPLITS:
      folders = {"data": tmp_path / "out"}
      rows = loader.make(config.data, tokenizer, kind, split, folders)
      for name, count in rows.counts.items():
        assert summary[kind][split][name] == count
      total += summary[kind][split]["records"]
    assert total == (60 if kind == "pretraining" else 40)
  lengths = summary["demonstrations"]["tokens"]
  assert lengths["prompt"]["p50"] <= lengths["prompt"]["max"]
  assert not list((tmp_path / "out").glob("**/.*"))


def test_the_stream_is_what_make_packs_itself(config, tmp_path):
  prepare.build(config, tmp_path / "out")
  tokenizer = tokenizers.load(tmp_path / "out")
  built, packed = (
    loader.make(config.data, tokenizer, "pretraining", "test", folders)
    for folders in ({"data": tmp_path / "out"}, {})
  )
  assert built.counts == packed.counts
  tokens = built.take(slice(None))["tokens"]
  assert (tokens == packed.take(slice(None))["tokens"]).all()


def contents(folder):
  paths = (path for path in folder.glob("**/*") if path.is_file())
  return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def times(folder):
  return {path: path.stat().st_mtime_ns for path in folder.glob("**/*")}


def test_build_is_idempotent_and_deterministic(config, tmp_path):
  prepare.build(config, tmp_path / "out")
  first, before = contents(tmp_path / "out"), times(tmp_path / "out")
  prepare.build(config, tmp_path / "out")
  assert times(tmp_path / "out") == before
  prepare.build(config, tmp_path / "again")
  assert contents(tmp_path / "again") == first


@pytest.mark.parametrize(
  "name",
  [
    "summary.json",
    "tokenizer/tokenizer.model",
    "rankings-test.jsonl",
    "pretraining/shards.json",
    "pretraining/rows/1.0.0/pretraining-train.array_record-00000",
  ],
)
def test_a_broken_build_is_built_again(config, tmp_path, name):
  prepare.build(config, tmp_path / "out")
  first = contents(tmp_path / "out")
  if name.endswith(("json", "model")):
    (tmp_path / "out" / name).write_bytes(b"{")
  else:
    (tmp_path / "out" / name).unlink()
  prepare.build(config, tmp_path / "out")
  assert contents(tmp_path / "out") == first


def test_other_settings_and_other_files_build_anew(config, tmp_path):
  prepare.build(config, tmp_path / "out")
  config.data.response_length = 3
  summary = prepare.build(config, tmp_path / "out")
  assert summary["demonstrations"]["train"]["responses_cut"] > 0
  write(
    tmp_path / "texts.jsonl",
    [{"text": "dogs " * 40 + str(n)} for n in range(90)],
  )
  summary = prepare.build(config, tmp_path / "out")
  assert sum(summary["pretraining"][s]["records"] for s in kinds.SPLITS) == 90


def test_an_interrupted_build_leaves_no_summary(config, tmp_path, monkeypatch):
  calls = iter([False, False, True])
  monkeypatch.setattr(interrupt, "requested", lambda: next(calls))
  with pytest.raises(interrupt.Interrupted):
    prepare.build(config, tmp_path / "out")
  assert not (tmp_path / "out" / "summary.json").exists()
  monkeypatch.undo()
  prepare.build(config, tmp_path / "out")


def test_what_is_refused(config, tmp_path):
  def refuses(message, **changes):
    changed = config.copy_and_resolve_references()
    changed.data.update(changes)
    with pytest.raises(errors.UserError, match=message):
      prepare.build(changed, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()

  refuses("data.pretraining is empty", pretraining="")
  refuses("no such file", demonstrations="nowhere.jsonl")
  refuses("k_max", k_max=1)
  refuses("at least", vocab_size=300)
  refuses("nothing is left.*data.prompt_length=4", prompt_length=4)
  few = write(tmp_path / "few.jsonl", [{"prompt": "one"}])
  refuses("split of data.prompts .* is empty", prompts=few)
  both = {"prompt": "what does dog 1 do?"}
  moved = write(
    tmp_path / "moved.jsonl",
    [{**both, "split": name} for name in kinds.SPLITS],
  )
  refuses("is in the train split of", prompts=moved)


def test_only_the_named_kinds_are_built(config, tmp_path):
  prepare.build(config, tmp_path / "out")
  config.data.update(prompts="", rankings="", demonstrations="")
  config.data.update(validation_fraction=0.0, test_fraction=0.0)
  summary = prepare.build(config, tmp_path / "out")
  assert "prompts" not in summary
  assert summary["pretraining"]["test"]["rows"] == 0
  assert not list((tmp_path / "out").glob("prompts-*"))


def lines_of(folder, kind, split):
  path = folder / f"{kind}-{split}.jsonl"
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_are_written_split_and_read_back(config, tmp_path):
  summary = prepare.build(config, tmp_path / "out")
  folders = {"data": tmp_path / "out"}
  sides = {}
  for kind in ("prompts", "demonstrations", "rankings"):
    for split in kinds.SPLITS:
      found = lines_of(tmp_path / "out", kind, split)
      assert found == sources.open_source(config.data, kind, split, folders)
      assert len(found) == summary[kind][split]["records"]
      for record in found:
        assert sides.setdefault(record["prompt"], split) == split
    assert summary[kind]["cleaning"]["held_out_elsewhere"] == 0
  assert len(sides) == 40


def test_an_empty_split_is_read_back_as_empty(config, tmp_path):
  config.data.update(validation_fraction=0.0, test_fraction=0.0)
  prepare.build(config, tmp_path / "out")
  config.data.test_fraction = 0.5
  for kind in ("prompts", "demonstrations", "rankings"):
    folders = {"data": tmp_path / "out"}
    assert sources.open_source(config.data, kind, "test", folders) == []


def test_no_text_is_needed_beside_an_imported_tokenizer(config, tmp_path):
  tokenizers.ByteTokenizer().save(tmp_path / "own")
  config.data.update(tokenizer=f"hf:{tmp_path / 'own'}", pretraining="")
  summary = prepare.build(config, tmp_path / "out")
  assert "pretraining" not in summary
  before = times(tmp_path / "out")
  assert prepare.build(config, tmp_path / "out") == summary
  assert times(tmp_path / "out") == before


def test_padding_is_counted_packed_and_not(config, tmp_path):
  config.data.row_length = 96
  summary = prepare.build(config, tmp_path / "out")
  tokenizer = tokenizers.load(tmp_path / "out")
  for kind in ("pretraining", "demonstrations"):
    found = summary[kind]["train"]
    for packed, counts in ((False, found), (True, found["packed"])):
      rows = loader.make(
        config.data,
        tokenizer,
        kind,
        "train",
        {"data": tmp_path / "out"},
        packed=packed,
      )
      masks = [v for k, v in rows.take(slice(None)).items() if k in MASKS]
      share = 1 - sum(m.sum() for m in masks) / sum(m.size for m in masks)
      assert counts["padding"] == pytest.approx(share, abs=1e-4)
      assert counts["rows"] == len(rows)
  found = summary["demonstrations"]["train"]
  assert found["packed"]["padding"] < found["padding"]


MASKS = ("is_token", "is_prompt", "is_response")


def test_a_mixture_s_text_has_a_file_for_each_part(config, tmp_path):
  more = write(
    tmp_path / "m.jsonl", [{"text": f"dog {n} " * 9} for n in "abcd"]
  )
  one = config.data.pretraining
  config.data.update(pretraining=f"{one}=0.75,{more}=0.25")
  config.data.update(validation_fraction=0.0, test_fraction=0.0)
  prepare.build(config, tmp_path / "out")
  tokenizer = tokenizers.load(tmp_path / "out")
  built, direct = (
    loader.make(config.data, tokenizer, "pretraining", "train", folders)
    for folders in ({"data": tmp_path / "out"}, {})
  )
  assert built.weights == (0.75, 0.25)
  assert built.part.tolist() == direct.part.tolist()
  for name, array in built.take(slice(None)).items():
    assert (array == direct.take(slice(None))[name]).all()
  before = times(tmp_path / "out")
  prepare.build(config, tmp_path / "out")
  assert times(tmp_path / "out") == before
  config.data.pretraining = f"{one}=0.5,{more}=0.5"
  prepare.build(config, tmp_path / "out")
  assert times(tmp_path / "out") != before


def test_an_imported_tokenizer_is_taken_as_it_is(config, tmp_path):
  own = tokenizers.train(
    ["the dog and the fox " * 9], tmp_path / "own", kind="bpe", vocab_size=380
  )
  config.data.tokenizer = f"hf:{tmp_path / 'own'}"
  summary = prepare.build(config, tmp_path / "out")
  assert summary["vocab_size"] == own.vocab_size
  text = "the lazy dog é"
  assert tokenizers.load(tmp_path / "out").encode(text) == own.encode(text)
  before = times(tmp_path / "out")
  prepare.build(config, tmp_path / "out")
  assert times(tmp_path / "out") == before
  tokenizers.train(
    ["a fox and a dog " * 9], tmp_path / "own", kind="bpe", vocab_size=380
  )
  prepare.build(config, tmp_path / "out")
  assert times(tmp_path / "out") != before


def test_a_tokenizer_is_trained_on_a_sample_of_much_text(
  config, tmp_path, monkeypatch, caplog
):
  """Of all of it where it is little, and both are said."""
  seen = []
  real = tokenizers.train

  def train(texts, *args, **kwargs):
    seen.append(list(texts))
    return real(seen[-1], *args, **kwargs)

  monkeypatch.setattr(tokenizers, "train", train)
  whole = prepare.build(config, tmp_path / "whole")
  told = whole["tokenizer_text"]
  assert told["characters"] == told["of_characters"] == sum(map(len, seen[0]))
  assert told["documents"] == told["of_documents"] == len(seen[0])
  assert "sample" not in caplog.text
  config.data.tokenizer_sample = told["characters"] // 2
  part = prepare.build(config, tmp_path / "part")
  assert set(seen[1]) < set(seen[0])
  size = sum(map(len, seen[1]))
  assert 0.3 * told["characters"] < size <= config.data.tokenizer_sample
  assert part["tokenizer_text"] == {
    **{"documents": len(seen[1]), "characters": size},
    **{"of_documents": len(seen[0])},
    **{"of_characters": told["characters"]},
  }
  assert f"a uniform sample of the text, {size:,} of" in caplog.text
  again = prepare.build(config, tmp_path / "again")
  assert again == part
  config.data.tokenizer, config.data.vocab_size = "word", 4000
  with pytest.raises(errors.UserError, match="no word may be lost"):
    prepare.build(config, tmp_path / "word")


def test_a_source_that_changes_after_its_digest(config, tmp_path, monkeypatch):
  """Nothing is made under the digest of what a file was before."""
  path = pathlib.Path(config.data.prompts)
  real = prepare.fingerprint.of

  def of(data):
    found = real(data)
    path.write_text(path.read_text() + '{"prompt": "one more"}\n')
    return found

  monkeypatch.setattr(prepare.fingerprint, "of", of)
  with pytest.raises(errors.UserError, match=r"prompts\.jsonl: changed while"):
    prepare.build(config, tmp_path / "out")
  assert not (tmp_path / "out" / "summary.json").exists()


def test_the_line_is_measured_in_the_build_alone(config, tmp_path, monkeypatch):
  """Not by what is read and learnt before, which counts no megabytes."""
  seen = []
  for name in ("say", "anew", "update"):
    real = getattr(progress.Progress, name)

    def noted(self, *args, name=name, real=real):
      seen.append((name, *args))
      real(self, *args)

    monkeypatch.setattr(progress.Progress, name, noted)
  monkeypatch.setattr(sources, "_COUNTED", 10)
  prepare.build(config, tmp_path / "out")
  anew = seen.index(("anew",))
  assert not [call for call in seen[:anew] if call[0] == "update"]
  said = [call[1] for call in seen if call[0] == "say"]
  learns = said.index("tokenizer learns")
  assert said[learns - 1] == "pretraining"  # No count stands still meanwhile.
  assert "pretraining: 60 records" in said[:learns]
