"""Records of demonstrations, prompts and rankings as rows of tokens."""

import numpy as np
import pytest

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import padding
from tests import data_toys

BYTES, EOT, PAD = data_toys.BYTES, data_toys.EOT, data_toys.PAD


def text_of(tokens, mask):
  return BYTES.decode(tokens[mask])


def test_demonstrations():
  records = [
    {"prompt": "hi", "response": "yes"},
    {"prompt": "much too long", "response": "x"},
    {"prompt": "{é}", "response": "it is cut"},
  ]
  rows = data_toys.rows_of("demonstrations", records)
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
    "records": 3,
    "prompts_too_long": 1,
    "prompt_p95": 18,
    "prompt_p99": 18,
    "responses": 2,
    "responses_cut": 1,
    "response_p95": 10,
    "response_p99": 10,
    "responses_empty": 0,
    "rows": 2,
    "padding": round(1 - (7 + 4 + 9 + 6) / (2 * 18), 4),
  }
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
  rows = data_toys.rows_of("rankings", records)
  assert rows.counts == {
    "records": 4,
    "prompts_too_long": 1,
    "prompt_p95": 20,
    "prompt_p99": 20,
    "responses": 7,
    "responses_cut": 3,
    "response_p95": 13,
    "response_p99": 13,
    "pairs": 4,
    "pairs_alike": 2,
    "too_few_completions": 2,  # equal, or equal once they are cut
    "rows": 1,
    "padding": round(1 - (6 + 11) / (12 + 18), 4),
  }
  batch = {name: array[0] for name, array in rows.take([0]).items()}
  assert batch["response"].shape == batch["is_response"].shape == (3, 6)
  assert batch["is_completion"].tolist() == [True, True, True]
  assert batch["ranks"].tolist() == [2, 1, 2]
  assert batch["beats"].dtype == bool
  assert np.argwhere(batch["beats"]).tolist() == [[1, 0], [1, 2]]
  assert batch["ranks"].dtype == np.int32
  assert batch["response"][0].tolist() == [*BYTES.encode("one"), EOT, PAD, PAD]
  assert batch["response"][1].tolist() == [EOT, *[PAD] * 5]
  assert batch["response"][2].tolist() == BYTES.encode("also c")
  assert batch["is_response"].sum(-1).tolist() == [4, 1, 6]


def test_a_response_that_did_not_end_has_no_end_token():
  record = {"prompt": "a", "responses": ["x", "x"], "ranks": [1, 2]}
  rows = data_toys.rows_of("rankings", [{**record, "ended": [True, False]}])
  assert rows.take([0])["is_response"][0].sum(-1).tolist() == [2, 1]


def test_ranks_order_what_pairs_beside_them_leave_out():
  record = {"prompt": "a", "responses": ["x", "y", "z"]}
  pairs = {"pairs": [[2, 0], [0, 1]]}
  ranks = {"ranks": [2, 3, 1]}
  rows = data_toys.rows_of(
    "rankings",
    [
      {**record, **pairs},
      {**record, **pairs, **ranks},
      {**record, **ranks},
      {**record, "pairs": [[2, 1]], "ranks": [2, 2, 1]},
    ],
  )
  batch = rows.take(slice(None))
  beats = [np.argwhere(one).tolist() for one in batch["beats"]]
  every = [[0, 1], [2, 0], [2, 1]]
  assert beats == [[[0, 1], [2, 0]], every, every, [[2, 0], [2, 1]]]
  assert batch["ranks"][:2, :3].tolist() == [[1, 1, 1], [2, 3, 1]]
  assert batch["is_completion"].sum(-1).tolist() == [3] * 4


DEMONSTRATIONS = [
  {"prompt": "hi", "response": "yes"},
  {"prompt": "ho", "response": "it is cut"},
  {"prompt": "much too long", "response": "x"},
  {"prompt": "", "response": "a"},
  {"prompt": "who", "response": "me"},
]


def test_packed_demonstrations_hold_the_same_tokens():
  changes = {"row_length": 20}
  plain = data_toys.rows_of("demonstrations", DEMONSTRATIONS, **changes)
  packed = data_toys.rows_of(
    "demonstrations", DEMONSTRATIONS, packed=True, **changes
  )
  batch, expected = packed.take(slice(None)), []
  for row in zip(*plain.take(slice(None)).values()):
    prompt, is_prompt, response, is_response = row
    pair = prompt[is_prompt].tolist(), response[is_response].tolist()
    expected.append(pair)
  found = []
  for n, segments in enumerate(batch["segments"]):
    assert (batch["is_token"][n] == (segments > 0)).all()
    assert (batch["tokens"][n][segments == 0] == PAD).all()
    assert not batch["is_target"][n][segments == 0].any()
    for segment in range(1, segments.max() + 1):
      here = np.flatnonzero(segments == segment)
      assert (np.diff(here) == 1).all()
      tokens, target = batch["tokens"][n][here], batch["is_target"][n][here]
      assert not target[0]
      found.append((tokens[~target].tolist(), tokens[target].tolist()))
  assert sorted(found) == sorted(expected)
  assert len(packed) < len(plain) == packed.counts["documents"] == 4
  assert packed.counts["padding"] < plain.counts["padding"]
  share = 1 - batch["is_token"].mean()
  assert packed.counts["padding"] == pytest.approx(share, abs=1e-4)


def test_packed_rows_must_hold_a_demonstration():
  with pytest.raises(errors.UserError, match=r"data\.row_length=17.*take 18"):
    data_toys.rows_of(
      "demonstrations", DEMONSTRATIONS, packed=True, row_length=17
    )


class Large(tokenizers.ByteTokenizer):
  """Its padding is one past a table of 2 ** 16."""

  vocab_size = pad_id = 2**16


def test_padding_past_the_table_is_held():
  assert padding.dtype_of(BYTES) == np.uint16
  assert padding.dtype_of(Large()) == np.int32


def test_packed_parts_stay_apart():
  records = [{**r, "part": n % 2} for n, r in enumerate(DEMONSTRATIONS * 3)]
  weights = (0.5, 0.5)
  rows = data_toys.rows_of(
    "demonstrations", records, packed=True, weights=weights, row_length=40
  )
  tokens = {0: [], 1: []}
  for part, row in zip(rows.part, rows.take(slice(None))["tokens"]):
    tokens[int(part)].append(row[row != PAD])
  for part in (0, 1):
    own = [r for r in records if r["part"] == part]
    alone = data_toys.rows_of("demonstrations", own, packed=True, row_length=40)
    batch = alone.take(slice(None))
    assert len(tokens[part]) == len(alone)
    for row, mask, mine in zip(
      batch["tokens"], batch["is_token"], tokens[part]
    ):
      np.testing.assert_array_equal(row[mask], mine)
