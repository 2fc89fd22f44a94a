"""Token rows, and batches that depend on seed and step alone."""

import json
import time

import hypothesis
import ml_collections
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax import errors, tokenizers
from instruct_jax.data import batches, sources

BYTES = tokenizers.ByteTokenizer()
EOT, PAD = BYTES.eot_id, BYTES.pad_id


def section(**changes):
  data = {
    "source": "files",
    "template": "Q {prompt} A",
    "prompt_length": 12,
    "response_length": 6,
    "row_length": 8,
    "k_max": 4,
    "validation_fraction": 0.0,
    "test_fraction": 0.0,
    **dict.fromkeys(sources.KINDS, ""),
  }
  return ml_collections.ConfigDict({**data, **changes})


def rows_of(kind, records, **changes):
  return batches.encode_records(records, section(**changes), BYTES, kind, kind)


def text_of(tokens, mask):
  return BYTES.decode(tokens[mask])


@pytest.fixture
def prompts():
  return rows_of("prompts", [{"prompt": str(n)} for n in range(50)])


@pytest.fixture
def texts():
  return batches.text_rows(np.arange(8 * 23 + 5), 8, "text")


def test_demonstrations():
  records = [
    {"prompt": "hi", "response": "yes"},
    {"prompt": "much too long", "response": "x"},
    {"prompt": "{é}", "response": "it is cut"},
  ]
  rows = rows_of("demonstrations", records)
  batch = rows.take([0, 1])
  assert {k: v.shape for k, v in batch.items()} == {
    "prompt": (2, 12),
    "is_prompt": (2, 12),
    "response": (2, 6),
    "is_response": (2, 6),
  }
  assert batch["prompt"].dtype == batch["response"].dtype == np.int32
  assert batch["is_prompt"].dtype == batch["is_response"].dtype == bool
  assert batch["prompt"][0].tolist() == [
    *[PAD] * 5, EOT, *BYTES.encode("Q hi A")
  ]  # fmt: skip
  assert batch["is_prompt"][0].tolist() == [False] * 5 + [True] * 7
  assert batch["response"][0].tolist() == [*BYTES.encode("yes"), EOT, PAD, PAD]
  assert batch["is_response"][0].tolist() == [True] * 4 + [False] * 2
  assert batch["response"][1].tolist() == BYTES.encode("it is ")
  assert text_of(batch["prompt"][1], batch["is_prompt"][1]) == "Q {é} A"
  assert rows.counts == {
    "records": 3, "prompts_too_long": 1, "responses_cut": 1, "rows": 2
  }  # fmt: skip
  assert rows.index.tolist() == [0, 2]
  assert rows.source[rows.index[1]] is records[2]


def test_rankings():
  responses = ["one", "", "also cut away"]
  records = [
    {"prompt": "a", "responses": ["x", "x"], "ranks": [1, 2]},
    {
      "prompt": "b",
      "responses": responses,
      "ranks": [2, 1, 2],
      "ended": [True, True, False],
    },
    {"prompt": "too long by far", "responses": ["x", "y"], "ranks": [1, 1]},
    {
      "prompt": "c",
      "responses": ["same text 1", "same text 2"],
      "ranks": [1, 2],
    },
  ]
  rows = rows_of("rankings", records)
  assert rows.counts == {
    "records": 4,
    "prompts_too_long": 1,
    "responses_cut": 3,
    "too_few_completions": 2,  # equal, or equal once they are cut
    "rows": 1,
  }
  batch = {name: array[0] for name, array in rows.take([0]).items()}
  assert batch["response"].shape == batch["is_response"].shape == (4, 6)
  assert batch["is_completion"].tolist() == [True, True, True, False]
  assert batch["ranks"].tolist() == [2, 1, 2, 0]
  assert batch["ranks"].dtype == np.int32
  assert batch["response"][0].tolist() == [*BYTES.encode("one"), EOT, PAD, PAD]
  assert batch["response"][1].tolist() == [EOT, *[PAD] * 5]
  assert batch["response"][2].tolist() == BYTES.encode("also c")
  assert batch["is_response"].sum(-1).tolist() == [4, 1, 6, 0]


def test_a_response_that_did_not_end_has_no_end_token():
  record = {"prompt": "a", "responses": ["x", "x"], "ranks": [1, 2]}
  rows = rows_of("rankings", [{**record, "ended": [True, False]}])
  assert rows.take([0])["is_response"][0].sum(-1).tolist() == [2, 1, 0, 0]


def test_pretraining_packs_documents():
  stream = np.concatenate(
    list(batches.token_stream(["abc", "", "defgh"], BYTES))
  )
  a, d = BYTES.encode("abc"), BYTES.encode("defgh")
  assert stream.tolist() == [EOT, *a, EOT, EOT, *d]
  rows = batches.text_rows(stream, 4, "text")
  batch = rows.take(slice(None))
  assert batch["tokens"].tolist() == [[EOT, *a], [EOT, EOT, *d[:2]]]
  assert batch["tokens"].dtype == np.int32
  assert batch["is_token"].all()
  assert rows.counts == {"tokens": 11, "tokens_dropped": 3, "rows": 2}
  with pytest.raises(errors.UserError, match=r"data\.row_length=12"):
    batches.text_rows(stream, 12, "text")


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
  documents=st.lists(st.text(max_size=9), min_size=1, max_size=9),
  length=st.integers(1, 12),
)
def test_packing_loses_nothing_but_the_end(documents, length):
  stream = np.concatenate(list(batches.token_stream(documents, BYTES)))
  hypothesis.assume(len(stream) >= length)
  rows = batches.text_rows(stream, length, "text").take(slice(None))
  flat = rows["tokens"].ravel()
  assert len(stream) - len(flat) < length
  np.testing.assert_array_equal(flat, stream[: len(flat)])


def test_streams_on_disk(tmp_path):
  path = batches.stream_path(tmp_path, "train")
  pieces = [np.arange(5, dtype=np.uint16), np.arange(9, dtype=np.uint16)]
  assert batches.write_stream(path, pieces) == 14
  read = batches.read_stream(path)
  assert isinstance(read, np.memmap)
  np.testing.assert_array_equal(read, np.concatenate(pieces))
  assert [p.name for p in tmp_path.iterdir()] == [path.name]
  assert batches.write_stream(path, []) == 0
  folders = {"data": tmp_path}
  batches.write_stream(path, pieces)
  rows = batches.make(section(), BYTES, "pretraining", "train", folders)
  assert rows.take([0])["tokens"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]]


def test_make_reads_files(tmp_path):
  lines = "".join(json.dumps({"prompt": f"p{n}"}) + "\n" for n in range(9))
  (tmp_path / "p.jsonl").write_text(lines)
  (tmp_path / "t.txt").write_text("some text\n\nmore text\n")
  data = section(
    prompts=str(tmp_path / "p.jsonl"), pretraining=str(tmp_path / "t.txt")
  )
  rows = batches.make(data, BYTES, "prompts", "train", {})
  assert rows.take([3])["index"].tolist() == [3]
  assert len(batches.make(data, BYTES, "pretraining", "train", {})) == 2
  with pytest.raises(
    errors.UserError, match=r"the test split of data\.prompts is"
  ):
    batches.make(data, BYTES, "prompts", "test", {})
  data.prompt_length = 3
  with pytest.raises(errors.UserError, match=r"data\.prompt_length=3"):
    batches.make(data, BYTES, "prompts", "train", {})


def test_in_order_counts_every_row_once(prompts, texts):
  found = list(prompts.in_order(16))
  assert {batch["prompt"].shape for batch in found} == {(16, 12)}
  index = np.concatenate([batch["index"] for batch in found])
  assert index.tolist() == [*range(50), *[-1] * 14]
  assert all(batch["is_prompt"].any(-1).all() for batch in found)
  masks = [batch["is_token"] for batch in texts.in_order(10)]
  assert sum(mask.sum() for mask in masks) == 8 * 23


def test_prompts_and_responses_of_evaluations():
  prompt, is_prompt, kept = batches.encode_prompts(
    ["hi", "far too long a prompt", "ho"], BYTES, "{prompt}:", 6
  )
  assert kept.tolist() == [0, 2]
  assert [text_of(*row) for row in zip(prompt, is_prompt)] == ["hi:", "ho:"]
  assert prompt.dtype == np.int32
  tokens = np.array([[*BYTES.encode("ok"), EOT, 77], BYTES.encode("long")])
  is_response = np.array([[True, True, True, False], [True] * 4])
  found = batches.decode_responses(tokens, is_response, BYTES)
  assert found == ["ok", "long"]


def equal(a, b):
  assert a.keys() == b.keys()
  for kind in a:
    assert a[kind].keys() == b[kind].keys()
    for name in a[kind]:
      np.testing.assert_array_equal(a[kind][name], b[kind][name])


def make_batches(prompts, texts, *, seed=0, **process):
  rows = {"prompts": prompts, "pretraining": texts}
  sizes = {"prompts": 8, "pretraining": 4}
  return batches.Batches(rows, sizes, seed=seed, **process)


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
  alone = batches.Batches({"pretraining": texts}, {"pretraining": 4}, seed=0)
  for step in (0, 3, 40):
    equal(alone[step], {"pretraining": both[step]["pretraining"]})


@pytest.mark.parametrize("stop", [0, 2, 6, 9, 31])
def test_a_restored_iterator_goes_on_exactly(prompts, texts, stop):
  straight = make_batches(prompts, texts)
  first = make_batches(prompts, texts)
  for _ in range(stop):
    equal(next(first), next(straight))
  state = json.loads(json.dumps(first.get_state()))
  second = make_batches(prompts, texts)
  second.set_state(state)
  for step in range(stop, stop + 9):
    batch = next(second)
    equal(batch, next(straight))
    equal(batch, second[step])


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
  equal(joined, whole)
  with pytest.raises(errors.UserError, match="does not divide over 3"):
    make_batches(prompts, texts, process_index=0, process_count=3)


def test_fewer_rows_than_a_batch(prompts):
  with pytest.raises(
    errors.UserError, match=r"config\.batch\.prompts.* are 50"
  ):
    batches.Batches({"prompts": prompts}, {"prompts": 51}, seed=0)
  whole = batches.Batches({"prompts": prompts}, {"prompts": 50}, seed=0)
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
