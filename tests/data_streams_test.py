"""Plain text as streams of tokens, on disk and cut into rows."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import streams
from tests import data_toys

BYTES, EOT = data_toys.BYTES, data_toys.EOT


class Starting(tokenizers.ByteTokenizer):
  """Texts start with a token of their own, as Llama's do."""

  vocab_size = 259
  start_ids = (258,)


class Bare(tokenizers.ByteTokenizer):
  """Texts start with nothing."""

  start_ids = ()


def stream_of(texts, tokenizer=BYTES):
  return streams.joined(streams.token_stream(texts, tokenizer))


def text_rows(stream, length, *, packed=False, tokenizer=BYTES):
  return streams.text_rows([stream], tokenizer, length, "text", packed=packed)


def test_pretraining_cuts_one_stream():
  stream = stream_of(["abc", "", "defgh"])
  a, d = BYTES.encode("abc"), BYTES.encode("defgh")
  assert stream.tolist() == [EOT, *a, EOT, EOT, *d]
  rows = text_rows(stream, 4)
  batch = rows.take(slice(None))
  assert batch.keys() == {"tokens", "is_token"}
  assert batch["tokens"].tolist() == [[EOT, *a], [EOT, EOT, *d[:2]]]
  assert batch["tokens"].dtype == np.int32
  assert batch["is_token"].all()
  counts = {"tokens": 11, "tokens_dropped": 3, "rows": 2, "padding": 0.0}
  assert rows.counts == counts
  with pytest.raises(errors.UserError, match=r"data\.row_length=12"):
    text_rows(stream, 12)


@pytest.mark.parametrize("tokenizer", [BYTES, Starting(), Bare()])
def test_documents_of_a_stream(tokenizer):
  texts = ["abc", "", "defgh"]
  stream = stream_of(texts, tokenizer)
  starts, lengths = streams.documents(stream, tokenizer)
  found = [stream[s : s + n].tolist() for s, n in zip(starts, lengths)]
  end = [tokenizer.eot_id]
  expected = [
    [*(tokenizer.start_ids or end), *tokenizer.encode(text), *end]
    for text in texts
  ]
  if tokenizer.start_ids in ((), BYTES.start_ids):
    expected[-1].pop()  # nothing follows the last, whose end is not written
  assert found == expected
  for list_ in streams.documents(stream_of([], tokenizer), tokenizer):
    assert len(list_) == 0


DOCUMENTS = st.lists(st.text(max_size=9), min_size=1, max_size=9)


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(documents=DOCUMENTS, length=st.integers(1, 12))
def test_cutting_loses_nothing_but_the_end(documents, length):
  stream = stream_of(documents)
  hypothesis.assume(len(stream) >= length)
  flat = text_rows(stream, length).take(slice(None))["tokens"].ravel()
  assert len(stream) - len(flat) < length
  np.testing.assert_array_equal(flat, stream[: len(flat)])


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(documents=DOCUMENTS, length=st.integers(1, 12))
def test_packing_loses_nothing(documents, length):
  tokenizer = Starting()
  rows = text_rows(
    stream_of(documents, tokenizer), length, packed=True, tokenizer=tokenizer
  )
  batch, found = rows.take(slice(None)), []
  for tokens, target, segments in zip(
    batch["tokens"], batch["is_target"], batch["segments"]
  ):
    for n in range(1, segments.max() + 1):
      here = segments == n
      assert not target[here][0]
      assert target[here][1:].all()
      found.append(tokens[here].tolist())
  expected = []
  for text in documents:
    ids = [258, *tokenizer.encode(text), EOT]
    expected += [ids[i : i + length] for i in range(0, len(ids), length)]
  assert sorted(found) == sorted(expected)
  assert rows.counts["documents"] == len(documents)
  cut = sum(len(text.encode()) + 2 > length for text in documents)
  assert rows.counts["documents_cut"] == cut


def test_a_row_s_part(tmp_path):
  parts = [np.arange(2, 22), np.arange(100, 109)]
  rows = streams.text_rows(parts, BYTES, 4, "text", weights=(0.5, 0.5))
  assert rows.part.tolist() == [0] * 5 + [1] * 2
  tokens = rows.take([6, 0, 4])["tokens"]
  assert tokens[:, 0].tolist() == [104, 2, 18]
  assert rows.counts["tokens_dropped"] == 1
