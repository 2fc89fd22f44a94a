"""What `make` reads, and batches that depend on seed and step alone."""

import collections
import dataclasses
import json
import time

import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.data.batch import loader, streams
from tests import data_toys

BYTES, EOT = data_toys.BYTES, data_toys.EOT


@pytest.fixture
def prompts():
  return data_toys.rows_of("prompts", [{"prompt": str(n)} for n in range(50)])


@pytest.fixture
def texts():
  return streams.text_rows([np.arange(8 * 23 + 5)], BYTES, 8, "text")


def test_make_reads_files(tmp_path):
  lines = "".join(json.dumps({"prompt": f"p{n}"}) + "\n" for n in range(9))
  (tmp_path / "p.jsonl").write_text(lines)
  (tmp_path / "t.txt").write_text("some text\n\nmore text\n")
  data = data_toys.section(
    prompts=str(tmp_path / "p.jsonl"), pretraining=str(tmp_path / "t.txt")
  )
  rows = loader.make(data, BYTES, "prompts", "train", {})
  assert rows.take([3])["index"].tolist() == [3]
  assert len(loader.make(data, BYTES, "pretraining", "train", {})) == 2
  with pytest.raises(
    errors.UserError, match=r"the test split of data\.prompts is"
  ):
    loader.make(data, BYTES, "prompts", "test", {})
  data.prompt_length = 3
  with pytest.raises(errors.UserError, match=r"data\.prompt_length=3"):
    loader.make(data, BYTES, "prompts", "train", {})


def test_in_order_counts_every_row_once(prompts, texts):
  found = list(prompts.in_order(16))
  assert {batch["prompt"].shape for batch in found} == {(16, 12)}
  index = np.concatenate([batch["index"] for batch in found])
  assert index.tolist() == [*range(50), *[-1] * 14]
  assert all(batch["is_prompt"].any(-1).all() for batch in found)
  masks = [batch["is_token"] for batch in texts.in_order(10)]
  assert sum(mask.sum() for mask in masks) == 8 * 23


def test_columns_go_with_their_rows(prompts):
  squares = np.arange(50, dtype=np.float32) ** 2
  pairs = np.stack([squares, -squares], axis=1)
  rows = prompts.with_columns({"square": squares}).with_columns({"two": pairs})
  batch = rows.take([7, 3])
  assert batch["square"].tolist() == [49, 9]
  assert batch["two"].tolist() == [[49, -49], [9, -9]]
  assert batch["index"].tolist() == [7, 3]
  last = list(rows.in_order(16))[-1]
  assert last["square"].tolist() == [48**2, 49**2, *[0] * 14]
  assert "square" not in prompts.take([7])
  batches = loader.Batches({"prompts": rows}, {"prompts": 10}, seed=0)
  for step in (0, 7):
    batch = batches[step]["prompts"]
    assert batch["square"].tolist() == (batch["index"] ** 2).tolist()
  for wrong, message in (
    ({"x": squares[:-1]}, "column 'x' of prompts: 49 lines for 50 rows"),
    ({"prompt": squares}, "'prompt' of prompts: there is one already"),
    ({"two": squares}, "'two' of prompts: there is one already"),
  ):
    with pytest.raises(errors.UserError, match=message):
      rows.with_columns(wrong)


def test_prompts_and_responses_of_evaluations():
  prompt, is_prompt, kept = loader.encode_prompts(
    ["hi", "far too long a prompt", "ho"], BYTES, "{prompt}:", 6
  )
  assert kept.tolist() == [0, 2]
  assert [BYTES.decode(p[m]) for p, m in zip(prompt, is_prompt)] == [
    "hi:",
    "ho:",
  ]
  assert prompt.dtype == np.int32
  tokens = np.array([[*BYTES.encode("ok"), EOT, 77], BYTES.encode("long")])
  is_response = np.array([[True, True, True, False], [True] * 4])
  found = loader.decode_responses(tokens, is_response, BYTES)
  assert found == ["ok", "long"]


def make_batches(prompts, texts, *, seed=0, **process):
  rows = {"prompts": prompts, "pretraining": texts}
  sizes = {"prompts": 8, "pretraining": 4}
  return loader.Batches(rows, sizes, seed=seed, **process)


def test_an_epoch_sees_a_row_at_most_once(prompts, texts):
  ours = make_batches(prompts, texts)
  assert ours.steps_per_epoch == 50 // 8
  epochs = [
    np.concatenate([ours[s]["prompts"]["index"] for s in range(e, e + 6)])
    for e in (0, 6, 12)
  ]
  for index in epochs:
    assert len(set(index.tolist())) == 48
  orders = {tuple(index.tolist()) for index in epochs}
  assert len(orders) == 3, "every epoch is shuffled anew"
  other = make_batches(prompts, texts, seed=1)
  assert other[0]["prompts"]["index"].tolist() != epochs[0][:8].tolist()


def test_batches_of_a_kind_do_not_depend_on_the_others(prompts, texts):
  both = make_batches(prompts, texts)
  alone = loader.Batches({"pretraining": texts}, {"pretraining": 4}, seed=0)
  for step in (0, 3, 40):
    data_toys.equal(alone[step], {"pretraining": both[step]["pretraining"]})


@pytest.mark.parametrize("stop", [0, 2, 6, 9, 31])
def test_a_restored_iterator_goes_on_exactly(prompts, texts, stop):
  straight = make_batches(prompts, texts)
  first = make_batches(prompts, texts)
  for _ in range(stop):
    data_toys.equal(next(first), next(straight))
  state = json.loads(json.dumps(first.get_state()))
  second = make_batches(prompts, texts)
  second.set_state(state)
  for step in range(stop, stop + 9):
    batch = next(second)
    data_toys.equal(batch, next(straight))
    data_toys.equal(batch, second[step])


def test_state_of_other_data_is_refused(prompts, texts):
  state = make_batches(prompts, texts, seed=1).get_state()
  with pytest.raises(errors.UserError, match="of other data"):
    make_batches(prompts, texts).set_state(state)


def test_processes_share_each_batch(prompts, texts):
  whole = make_batches(prompts, texts)[7]
  parts = [
    make_batches(prompts, texts, process_index=i, process_count=4)[7]
    for i in range(4)
  ]
  joined = {
    kind: {
      name: np.concatenate([p[kind][name] for p in parts]) for name in batch
    }
    for kind, batch in whole.items()
  }
  data_toys.equal(joined, whole)
  with pytest.raises(errors.UserError, match="does not divide over 3"):
    make_batches(prompts, texts, process_index=0, process_count=3)


def test_fewer_rows_than_a_batch(prompts):
  with pytest.raises(
    errors.UserError, match=r"config\.batch\.prompts.* are 50"
  ):
    loader.Batches({"prompts": prompts}, {"prompts": 51}, seed=0)
  whole = loader.Batches({"prompts": prompts}, {"prompts": 50}, seed=0)
  index = whole[1]["prompts"]["index"]
  assert sorted(index.tolist()) == list(range(50))


def test_a_batch_is_cheap(prompts, texts):
  ours = make_batches(prompts, texts)
  times = []
  for step in range(50):
    start = time.perf_counter()
    ours[step]
    times.append(time.perf_counter() - start)
  assert np.median(times) < 5e-3  # 0.03 ms on an idle core


WEIGHTS = (0.6, 0.3, 0.1)


def mixed(kind, *, packed, seed=0, **process):
  """Batches of 10 of a mixture whose parts hold 30, 9 and 5 documents."""
  part = np.repeat(np.arange(3), [30, 9, 5])
  if kind == "pretraining":
    stream = [
      data_toys.stream_of([f"{p} text {n}" for n in np.flatnonzero(part == p)])
      for p in range(3)
    ]
    rows = streams.text_rows(
      stream, BYTES, 24, "text", packed=packed, weights=WEIGHTS
    )
  else:
    records = [
      {"prompt": str(n), "response": str(p), "part": int(p)}
      for n, p in enumerate(part)
    ]
    rows = data_toys.rows_of(
      kind, records, packed=packed, weights=WEIGHTS, row_length=24
    )
  return loader.Batches({kind: rows}, {kind: 10}, seed=seed, **process), rows


CASES = [
  ("pretraining", False),
  ("pretraining", True),
  ("demonstrations", False),
  ("demonstrations", True),
  ("prompts", False),
]


@pytest.mark.parametrize(("kind", "packed"), CASES)
def test_mixtures_stop_and_go_on_and_share_out(kind, packed):
  whole, rows = mixed(kind, packed=packed)
  seen = np.concatenate([whole._indices(kind, 10, step) for step in range(12)])
  shares = np.cumsum(rows.part[seen][:, None] == np.arange(3), axis=0)
  draws = np.arange(1, 121)[:, None]
  assert np.abs(shares - draws * np.asarray(WEIGHTS)).max() <= 1
  for part in range(3):
    own = np.flatnonzero(rows.part == part)
    drawn = seen[rows.part[seen] == part]
    for start in range(0, len(drawn) - len(own) + 1, len(own)):
      epoch = drawn[start : start + len(own)]
      assert sorted(epoch.tolist()) == own.tolist(), "every row once an epoch"
  straight = [whole[step] for step in range(12)]
  for stop in range(8):
    first, _ = mixed(kind, packed=packed)
    for _ in range(stop):
      next(first)
    second, _ = mixed(kind, packed=packed)
    second.set_state(json.loads(json.dumps(first.get_state())))
    for step in range(stop, stop + 4):
      data_toys.equal(next(second), straight[step])
  for count in (2, 5):
    shared = [
      mixed(kind, packed=packed, process_index=i, process_count=count)[0]
      for i in range(count)
    ]
    for step in (0, 3, 11):
      data_toys.equal({kind: joined(shared, step, kind)}, straight[step])


def joined(shared, step, kind):
  parts = [process[step][kind] for process in shared]
  names = parts[0].keys()
  return {name: np.concatenate([p[name] for p in parts]) for name in names}


@pytest.mark.parametrize("count", [2, 4])
def test_packed_rows_are_shared_by_process(count):
  records = [{"prompt": str(n), "response": str(n)} for n in range(80)]
  packed = data_toys.rows_of(
    "demonstrations", records, packed=True, row_length=24
  )

  def make(**process):
    rows, sizes = {"demonstrations": packed}, {"demonstrations": 8}
    return loader.Batches(rows, sizes, seed=3, **process)

  shared = [make(process_index=i, process_count=count) for i in range(count)]
  for step in (0, 5):
    together = {"demonstrations": joined(shared, step, "demonstrations")}
    data_toys.equal(together, make()[step])


def test_mixtures_of_other_weights_are_refused():
  ours, rows = mixed("prompts", packed=False)
  other = loader.Batches(
    {"prompts": dataclasses.replace(rows, weights=(0.5, 0.4, 0.1))},
    {"prompts": 10},
    seed=0,
  )
  with pytest.raises(errors.UserError, match="of other data"):
    other.set_state(ours.get_state())


def test_a_part_without_rows_is_refused():
  records = [{"prompt": str(n), "part": 0} for n in range(20)]
  rows = data_toys.rows_of("prompts", records, weights=(0.5, 0.5))
  with pytest.raises(errors.UserError, match=r"part 2 of data\.prompts"):
    loader.Batches({"prompts": rows}, {"prompts": 4}, seed=0)


def test_make_reads_mixtures(tmp_path):
  for name in "ab":
    lines = (json.dumps({"text": f"{name} {n}" * 3}) for n in range(20))
    (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
  spec = ",".join(f"{tmp_path}/{n}.jsonl={w}" for n, w in (("a", 3), ("b", 1)))
  data = data_toys.section(pretraining=spec)
  for packed in (False, True):
    rows = loader.make(data, BYTES, "pretraining", "train", {}, packed=packed)
    assert rows.weights == (3.0, 1.0)
    first = collections.Counter()
    ours = loader.Batches({"pretraining": rows}, {"pretraining": 4}, seed=0)
    for step in range(5):
      first.update(rows.part[ours._indices("pretraining", 4, step)].tolist())
      assert first == {0: 3 * (step + 1), 1: step + 1}
