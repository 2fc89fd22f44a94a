"""Shards on the disk: what TFDS, an index and a damaged byte make of them."""

import errno
import io
import itertools
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data import building, prepare
from instruct_jax.data.batch import (
  loader,
  packing,
  pieces,
  pool,
  shards,
  worker,
)
from instruct_jax.data.read import bundles, kinds
from tests import data_toys, disk_test

SPLITS = {"validation_fraction": 0.2, "test_fraction": 0.1}


def write(path, records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(path)


@pytest.fixture
def config(tmp_path):
  """Some of every kind, with rankings of two and of three responses."""
  prompts = [{"prompt": f"p{n}"} for n in range(60)]
  sizes = [2 + n % 2 for n in range(60)]
  data = data_toys.section(
    **SPLITS,
    tokenizer="byte",
    vocab_size=300,
    row_length=20,
    pretraining=write(
      tmp_path / "t.jsonl",
      [{"text": f"text {n} " * (n % 5 + 1)} for n in range(90)],
    ),
    prompts=write(tmp_path / "p.jsonl", prompts),
    demonstrations=write(
      tmp_path / "d.jsonl",
      [p | {"response": "r" * (n % 7 + 1)} for n, p in enumerate(prompts)],
    ),
    rankings=write(
      tmp_path / "r.jsonl",
      [
        p | {"responses": list("abc"[:k]), "ranks": [*range(1, k + 1)]}
        for k, p in zip(sizes, prompts)
      ],
    ),
  )
  return data_toys.config(data)


@pytest.fixture
def small(monkeypatch):
  """Pieces so small that there are many."""
  monkeypatch.setattr(building, "PIECE", 150)


def rows_of(config, folder, kind, split, *, packed=False):
  """The rows in the folder, and those made in memory of the same records."""
  tokenizer = tokenizers.load(folder)
  made = loader.make(
    config.data, tokenizer, kind, split, {"data": folder}, packed=packed
  )
  records = data_toys.cleaned(config.data).by_split[kind][split]
  expected = loader.make(
    config.data,
    tokenizer,
    kind,
    split,
    {},
    packed=packed,
    open_records=lambda *_: records,
  )
  return made, expected


CASES = [
  *((kind, False) for kind in kinds.KINDS),
  *((kind, True) for kind, entry in kinds.KINDS.items() if entry.can_pack),
]


@pytest.mark.parametrize(("kind", "packed"), CASES)
def test_one_shard_has_the_rows_that_memory_would_have(
  config, tmp_path, kind, packed
):
  prepare.build(config, tmp_path / "out")
  for split in kinds.SPLITS:
    made, expected = rows_of(
      config, tmp_path / "out", kind, split, packed=packed
    )
    assert made.counts == expected.counts
    assert made.index.tolist() == expected.index.tolist()
    for chosen in (slice(None), [len(made) - 1, 0, 0], np.array([-1])):
      data_toys.equal({kind: made.take(chosen)}, {kind: expected.take(chosen)})
    in_order = zip(made.in_order(7), expected.in_order(7), strict=True)
    for one, other in in_order:
      data_toys.equal({kind: one}, {kind: other})


@pytest.mark.parametrize("kind", ["demonstrations", "prompts", "rankings"])
def test_records_are_the_same_rows_in_any_number_of_shards(
  config, tmp_path, small, kind
):
  prepare.build(config, tmp_path / "out")
  made, expected = rows_of(config, tmp_path / "out", kind, "train")
  files = list(shards.folder(tmp_path / "out", kind, "rows").glob("*train*"))
  assert len(files) > 3
  assert made.counts == expected.counts
  assert made.index.tolist() == expected.index.tolist()
  data_toys.equal(
    {kind: made.take(slice(None))}, {kind: expected.take(slice(None))}
  )
  record = made.source[int(made.index[-1])]
  assert made.kind == kind
  assert record["prompt"] == expected.source[int(expected.index[-1])]["prompt"]


def bundled(records, size):
  """(split, record) of texts as they are read, so many at a time."""
  for start in range(0, len(records), size):
    some = records[start : start + size]
    sides = np.array([kinds.SPLITS.index(split) for split, _ in some])
    yield sides, bundles.of([record["text"] for _, record in some])


@pytest.mark.parametrize("together", [1, 7, 300])
def test_what_is_held_out_is_held_in_small_pieces(small, together):
  """So that much text needs no more memory than a piece's worth of it."""
  del small
  order = [kinds.SPLITS[n % 3] for n in range(300)]
  records = [(split, {"text": f"{n:09}"}) for n, split in enumerate(order)]
  made = list(building.cut(bundled(records, together), "pretraining"))
  sizes = {split: set() for split in kinds.SPLITS}
  for split, own in sizes.items():
    of_split = [piece for piece in made if piece.split == split]
    assert [piece.number for piece in of_split] == [*range(len(of_split))]
    own.update(piece.size for piece in of_split[:-1])  # then what was left
  assert sizes == {"train": {153}, "validation": {81}, "test": {81}}
  assert max(piece.beside for piece in made[:-3]) < 150 + 2 * 81
  again = {split: [] for split in kinds.SPLITS}
  for piece in made:
    again[piece.split] += piece.records
  for split in kinds.SPLITS:
    assert again[split] == [r for s, r in records if s == split]


def test_no_row_of_text_crosses_a_shard(config, tmp_path, small):
  prepare.build(config, tmp_path / "out")
  records = data_toys.cleaned(config.data).by_split["pretraining"]["train"]
  given = bundled([("train", record) for record in records], 4)
  pieces = list(building.cut(given, "pretraining"))
  assert len(pieces) > 5
  assert [r for piece in pieces for r in piece.records] == records
  plain, packed = [], []
  for piece in pieces:
    ids = [[1, *(b + 2 for b in r["text"].encode())] for r in piece.records]
    flat = list(itertools.chain.from_iterable(ids))
    plain += [flat[i : i + 20] for i in range(0, len(flat) - 19, 20)]
    ends = [[*row, 1] for row in ids[:-1]] + ids[-1:]
    cuts = [row[i : i + 20] for row in ends for i in range(0, len(row), 20)]
    packed.append(sorted(cuts))
  made, _ = rows_of(config, tmp_path / "out", "pretraining", "train")
  assert made.take(slice(None))["tokens"].tolist() == plain
  made, _ = rows_of(
    config, tmp_path / "out", "pretraining", "train", packed=True
  )
  batch, found, row = made.take(slice(None)), [], 0
  info = json.loads(
    (tmp_path / "out" / "pretraining" / "shards.json").read_text()
  )
  for shard in info["splits"]["train"]["shards"]["packed"]:
    of_shard = []
    for n in range(row, row + shard["rows"]):
      segments = batch["segments"][n]
      for segment in range(1, segments.max() + 1):
        here = segments == segment
        of_shard.append(batch["tokens"][n][here].tolist())
        assert batch["is_target"][n][here].sum() == here.sum() - 1
    row += shard["rows"]
    found.append(sorted(of_shard))
  assert found == packed
  assert made.counts["documents"] == len(records)
  assert made.counts["tokens"] == sum(len(c) for p in packed for c in p)


@pytest.mark.parametrize(("kind", "packed"), CASES)
def test_tfds_reads_every_layout(config, tmp_path, small, kind, packed):
  prepare.build(config, tmp_path / "out")
  folder = shards.folder(
    tmp_path / "out", kind, shards.PACKED if packed else shards.ROWS
  )
  builder = tfds.builder_from_directory(folder)
  for split in kinds.SPLITS:
    made, _ = rows_of(config, tmp_path / "out", kind, split, packed=packed)
    batch = made.take(slice(None))
    source = builder.as_data_source(split)
    assert len(source) == len(made)
    for n in (0, len(made) - 1):
      row = source[n]
      if "tokens" in row:
        here = batch["is_token"][n]
        for name in row.keys() - {"length"}:
          assert row[name].tolist() == batch[name][n][here].tolist()
        if packed and kind == "pretraining":
          sizes = np.bincount(batch["segments"][n][here])[1:]
          assert row["length"].tolist() == sizes.tolist()
      else:
        there = batch["is_prompt"][n]
        length = int(row["prompt_length"])
        ids = row["prompt"][len(there) - length :].tolist()
        assert ids == batch["prompt"][n][there].tolist()
      if "ranks" in row:
        k = len(row["ranks"])
        assert row["ranks"].tolist() == batch["ranks"][n][:k].tolist()
        beats = batch["beats"][n][:k, :k]
        assert row["beats"].ravel().tolist() == beats.ravel().tolist()
  assert "tensorflow" not in sys.modules


def test_an_example_is_as_protobuf_writes_it():
  rng = np.random.default_rng(0)
  for size in (0, 1, 30, 127, 128, 5000, 70_000):
    row = {
      "tokens": rng.integers(9, size=size).astype(np.uint16),
      "a": rng.integers(9, size=3),
      "is_target": np.ones(size % 7, bool),
    }
    example = tf_example_pb2.Example()
    for name, array in row.items():
      content = array.tobytes()
      example.features.feature[name].bytes_list.value.append(content)
    expected = example.SerializeToString(deterministic=True)
    assert shards._example(row) == expected


def test_text_that_is_handed_over_is_what_it_was():
  some = ["a", "", "é 日本\n\x00", "\ud800 alone", "", "end"]
  growing, file = pieces.Growing(), io.BytesIO()
  for together in (["gone", *some[:3]], ["gone", *some[3:]]):
    bundle = bundles.of(together)
    growing.add(bundle.content, bundle.starts[1:], bundle.stops[1:])
  assert len(growing) == 6
  texts = growing.grown("text")
  assert np.diff(texts.ends, prepend=0).tolist() == [2, 1, 12, 10, 1, 4]
  worker.send(file, ("first", texts))
  worker.send(file, "second")
  file.seek(0)
  records = [{"text": text} for text in some]
  for each in (
    texts,
    worker.receive(file)[1],
    pickle.loads(pickle.dumps(texts)),
  ):
    assert list(each) == [each[n] for n in range(len(each))] == records
    assert (each[-1], each[2:4]) == (records[-1], records[2:4])
    with pytest.raises(IndexError):
      each[6]
  assert worker.receive(file) == "second"
  with pytest.raises(EOFError):
    worker.receive(file)
  assert list(pieces.Growing().grown("text")) == []


def times(folder):
  return {
    path: path.stat().st_mtime_ns
    for path in folder.glob("**/*")
    if path.is_file()
  }


@pytest.mark.parametrize("kind", ["pretraining", "rankings"])
def test_a_flipped_byte_is_found_and_its_shard_alone_made_again(
  config, tmp_path, small, kind
):
  out = tmp_path / "out"
  prepare.build(config, out)
  path = shards.path(out, kind, "rows", "train", 1)
  content, before = path.read_bytes(), times(out)
  damaged = bytearray(content)
  damaged[len(content) // 2] ^= 1
  path.write_bytes(damaged)
  data = config.data
  prepare.repair(data, {"data": out}, kind, "validation")
  assert path.read_bytes() == damaged
  prepare.repair(data, {"data": out}, kind, "train")
  assert path.read_bytes() == content
  changed = {p for p, time in times(out).items() if before.get(p) != time}
  lines = {out / f"{kind}-{split}.jsonl" for split in kinds.SPLITS}
  both = {shards.path(out, kind, name, "train", 1) for name in shards.LAYOUTS}
  assert changed - lines <= both
  assert path in changed
  path.unlink()
  assert prepare.build(config, out)["inputs"]
  assert path.read_bytes() == content


def test_a_shard_is_made_again_as_large_as_it_was(
  config, tmp_path, small, monkeypatch
):
  out = tmp_path / "out"
  prepare.build(config, out)
  path = shards.path(out, "pretraining", "rows", "train", 2)
  content = path.read_bytes()
  path.unlink()
  monkeypatch.setattr(building, "PIECE", 500)
  prepare.repair(config.data, {"data": out}, "pretraining", "train")
  assert path.read_bytes() == content


def test_damage_without_its_source_is_an_error_that_names_both(
  config, tmp_path, small
):
  out = tmp_path / "out"
  prepare.build(config, out)
  path = shards.path(out, "pretraining", "rows", "train", 1)
  path.write_bytes(b"nothing")
  (tmp_path / "t.jsonl").unlink()
  with pytest.raises(errors.UserError, match=r"train\.array_record-00001.*t\."):
    prepare.repair(config.data, {"data": out}, "pretraining", "train")


def contents(folder):
  paths = (path for path in folder.glob("**/*") if path.is_file())
  return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


KILLED = """
import json, os, signal, sys
import ml_collections
from instruct_jax.base import storage
from instruct_jax.data import building, prepare
from instruct_jax.data.batch import pool

building.PIECE, pool.SMALL = 150, int(sys.argv[4])
left, write_json = int(sys.argv[3]), storage.write_json

def write(path, tree):
  global left
  write_json(path, tree)
  left -= "pieces" in str(path)
  if not left:
    os.kill(os.getpid(), signal.SIGKILL)

storage.write_json = write
data = ml_collections.ConfigDict(json.loads(sys.argv[1]))
prepare.build(ml_collections.ConfigDict({"data": data}), sys.argv[2])
"""


@pytest.mark.parametrize("in_processes", [False, True])
def test_a_killed_build_goes_on_shard_by_shard(
  config, tmp_path, small, monkeypatch, in_processes
):
  config.data.update(prompts="", demonstrations="", rankings="")
  prepare.build(config, tmp_path / "whole")
  some = 0 if in_processes else pool.SMALL
  killed = subprocess.run(
    [
      *(sys.executable, "-c", KILLED, config.data.to_json()),
      *(str(tmp_path / "out"), "7", str(some)),
    ],
    check=False,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  assert killed.returncode == -9
  out = tmp_path / "out"
  assert not (out / "summary.json").exists()
  there = list((out / "pretraining" / "pieces").glob("*.json"))
  assert len(there) == 7
  before = times(out)
  prepare.build(config, out)
  assert contents(out) == contents(tmp_path / "whole")
  after = times(out)
  names = [path.stem.rpartition("-") for path in there]
  for split, _, number in names:
    for layout in shards.LAYOUTS:
      path = shards.path(out, "pretraining", layout, split, int(number))
      assert after[path] == before[path]


@pytest.mark.parametrize("in_processes", [False, True])
def test_a_disk_that_fills_is_said_and_what_is_complete_stays(
  config, tmp_path, small, monkeypatch, in_processes
):
  config.data.update(prompts="", demonstrations="", rankings="")
  config.data.update(validation_fraction=0.0, test_fraction=0.0)
  monkeypatch.setattr(pool, "SMALL", -1 if in_processes else pool.SMALL)
  with open(tmp_path / "t.jsonl", "a") as file:
    file.write(json.dumps({"text": "long " * 60_000}) + "\n")
  out = tmp_path / "out"
  with (
    disk_test.files_of_at_most(200_000),
    pytest.raises(OSError, match=r"pretraining-train\.array_record-\d") as full,
  ):
    prepare.build(config, out)
  assert full.value.errno == errno.EFBIG
  assert not list(out.glob("**/.*"))
  assert not (out / "summary.json").exists()
  before = times(out)
  there = list((out / "pretraining" / "pieces").glob("*.json"))
  assert len(there) > 3
  prepare.build(config, out)
  after = times(out)
  assert all(after[path] == before[path] for path in there)
  prepare.build(config, tmp_path / "whole")
  assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
  ("code", "words"),
  [
    ("import os; os.kill(os.getpid(), 9)", "signal 9 .out of memory"),
    ("raise SystemExit(3)", "exit code 3"),
  ],
)
def test_a_process_that_is_killed_is_an_error_that_says_how_to_go_on(
  config, tmp_path, small, monkeypatch, code, words
):
  monkeypatch.setattr(pool, "SMALL", -1)
  monkeypatch.setattr(pool, "_CODE", code)
  with pytest.raises(errors.UserError, match=f"train.*{words}.*same command"):
    prepare.build(config, tmp_path / "out")
  monkeypatch.undo()
  assert prepare.build(config, tmp_path / "out")["inputs"]


def test_processes_that_are_started_ahead_make_small_pieces_too(
  config, tmp_path, small, monkeypatch
):
  config.data.update(prompts="", demonstrations="", rankings="")
  prepare.build(config, tmp_path / "here")
  write_here = pieces.write
  monkeypatch.setattr(prepare, "_MUCH", 0)
  monkeypatch.setattr(pieces, "write", None)
  prepare.build(config, tmp_path / "there")
  monkeypatch.setattr(pieces, "write", write_here)
  assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_what_waits_is_less_where_more_is_held_beside(monkeypatch):
  monkeypatch.setattr(pool, "HELD", 100)
  monkeypatch.setattr(pool.Team, "_start", lambda team: None)

  def waiting(beside):
    """How many pieces of 25 bytes are taken, two of which processes get."""
    team = pool.Team(data_toys.section(), "", processes=2)
    for n in range(9):
      piece = pieces.Piece("pretraining", "train", n, 0, 25, "", (), beside)
      if not team.has_room(piece):
        return n - 2
      team.put(piece)
      if n < 2:
        del team._waiting[pool._name(piece)]
    return None

  assert [waiting(beside) for beside in (0, 50, 51, 75, 99)] == [2, 2, 1, 1, 0]


def test_a_process_that_makes_pieces_does_not_load_jax():
  code = (
    "import sys; from instruct_jax.data.batch import worker;"
    " print(any(name in sys.modules for name in ('jax', 'tensorflow')))"
  )
  said = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert said.stdout.strip() == "False"


def test_other_lengths_than_the_shards_were_made_for_are_encoded_anew(
  config, tmp_path
):
  prepare.build(config, tmp_path / "out")
  config.data.response_length = 3
  rows, expected = rows_of(config, tmp_path / "out", "demonstrations", "train")
  assert rows.take([0])["response"].shape == (1, 3)
  data_toys.equal(
    {"": rows.take(slice(None))}, {"": expected.take(slice(None))}
  )


def test_mixtures_of_shards_take_turns_as_in_memory(config, tmp_path, small):
  more = write(tmp_path / "m.jsonl", [{"text": f"more {n}"} for n in range(40)])
  one = config.data.pretraining
  config.data.pretraining = f"{one}=0.75,{more}=0.25"
  prepare.build(config, tmp_path / "out")
  rows, _ = rows_of(config, tmp_path / "out", "pretraining", "train")
  texts = [
    bytes(b - 2 for b in row if b > 1)
    for row in rows.take(slice(None))["tokens"]
  ]
  assert rows.part.tolist() == [int(b"more" in text) for text in texts]
  batches = loader.Batches({"pretraining": rows}, {"pretraining": 4}, seed=0)
  for step in range(6):
    chosen = batches._indices("pretraining", 4, step)
    assert rows.part[chosen].sum() == 1
    data_toys.equal(next(batches), {"pretraining": rows.take(chosen)})
  batches.close()


def test_targets_of_single_tokens_are_kept(tmp_path):
  """Prompts of one token look like text, but for what a loss counts."""
  tokens, counted = np.arange(2, 14, dtype=np.uint16), np.arange(12) % 3 == 1
  texts = np.array([0, 6]), np.array([6, 6]), np.array([1, 1])
  table, _ = packing.pack([tokens], [texts], 8, 0, targets=[counted])
  found = [row["is_target"].tolist() for row in shards.rows_of(table)]
  assert found == [counted[:6].tolist(), counted[6:].tolist()]
