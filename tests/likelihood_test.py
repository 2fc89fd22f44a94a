"""Likelihoods of continuations, against logits of one text after the other."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax import tokenizers
from instruct_jax.inference import likelihood, rows
from instruct_jax.models import attention, heads
from instruct_jax.parallel import sharding
from tests import toys

REACH = 48
TOKENIZER = tokenizers.ByteTokenizer()
MODEL = heads.LanguageModel(
  toys.decoder_config(
    vocab_size=TOKENIZER.vocab_size, positions="learned", context_length=REACH
  )
)


@functools.cache
def params():
  made = toys.init_params(MODEL, jax.random.key(0))
  return jax.tree.map(lambda x: 1.5 * x if x.ndim > 1 else x, made)


def reader(**mesh):
  axes = {"data": 1, "fsdp": 1, "tensor": 1} | mesh
  return likelihood.Reader(
    MODEL, params(), TOKENIZER, sharding.make_mesh(**axes)
  )


@jax.jit
def _logits(params, tokens, is_token):
  logits, _ = MODEL.apply(
    {"params": params}, tokens, attention.padded(is_token)
  )
  return logits[0]


def logits_of(tokens):
  """The logits [T, V] of this text alone; what is behind it is not seen."""
  row = np.zeros((1, REACH), np.int32)
  row[0, : len(tokens)] = tokens
  is_token = np.arange(REACH)[None] < len(tokens)
  logits = _logits(params(), jnp.asarray(row), jnp.asarray(is_token))
  return np.asarray(logits, np.float64)[: len(tokens)]


def by_hand(context, continuation):
  """(log-probability, is greedy) by the logits of this text alone."""
  read = [*context, *continuation][:-1]
  logits = logits_of(read)[len(context) - 1 :]
  chosen = logits[np.arange(len(continuation)), list(continuation)]
  sums = np.log(np.exp(logits).sum(axis=1))
  return (chosen - sums).sum(), (chosen >= logits.max(axis=1)).all()


def greedy(context, count):
  """What the model says greedily, by the same logits."""
  ids = list(context)
  for _ in range(count):
    ids.append(int(logits_of(ids)[-1].argmax()))
  return tuple(ids[len(context) :])


def ids(text):
  return tuple(TOKENIZER.encode(text))


ASKED = [
  ("the cat", " sat"),
  ("a", "b"),
  ("the cat", " ran away"),
  ("", "what"),
  ("x" * 30, "y" * 10),
  ("the cat", ""),
  ("the cat ", "sat"),  # the space belongs to what follows
]


@pytest.fixture(scope="module")
def said():
  return likelihood.of_texts(reader(), ASKED)


def test_as_one_text_after_the_other(said):
  for (context, continuation), found in zip(ASKED, said, strict=True):
    before = (*TOKENIZER.start_ids, *ids(context.rstrip()))
    after = ids(context[len(context.rstrip()) :] + continuation)
    logprob, is_greedy = by_hand(before, after)
    assert found.logprob == pytest.approx(logprob, rel=1e-4, abs=1e-4)
    assert found.is_greedy == is_greedy
    assert found.tokens == len(after)
    assert not found.is_cut
  assert said[6] == said[0]


def test_a_template_stands_around_contexts():
  asked = dataclasses.replace(reader(), template="Q{prompt}A")
  found = likelihood.of_texts(asked, [("the cat ", "sat"), ("", "x")])
  for one, context, said in zip(found, ("Qthe cat A", "QA"), ("sat", "x")):
    before = (*TOKENIZER.start_ids, *ids(context))
    logprob, _ = by_hand(before, ids(said))
    assert one.logprob == pytest.approx(logprob, rel=1e-4)
    assert one.tokens == len(said)


def test_what_is_said_greedily_is_known():
  start = ids("the cat")
  best = greedy(start, 3)
  other = (*best[:2], (best[2] + 1) % TOKENIZER.vocab_size)
  found = likelihood.of_tokens(
    reader(), [(start, best), (start, other), (start, ())]
  )
  assert [x.is_greedy for x in found] == [True, False, True]


@pytest.mark.parametrize("mesh", [{"data": 4, "fsdp": 2}, {"tensor": 2}])
def test_devices_change_nothing(said, mesh):
  for one, other in zip(said, likelihood.of_texts(reader(**mesh), ASKED)):
    assert one.logprob == pytest.approx(other.logprob, rel=1e-5, abs=1e-5)
    assert one.is_greedy == other.is_greedy


@pytest.mark.parametrize(("slots", "least"), [(1, 512), (200, 50), (64, 16)])
def test_batches_change_nothing(said, slots, least, monkeypatch):
  monkeypatch.setattr(rows, "CPU_SLOTS", slots)
  monkeypatch.setattr(rows, "_LEAST", least)
  for one, other in zip(said, likelihood.of_texts(reader(), ASKED)):
    assert one.logprob == pytest.approx(other.logprob, rel=1e-5, abs=1e-5)
    assert one.is_greedy == other.is_greedy


def test_what_is_known_changes_nothing_of_the_rest(monkeypatch):
  monkeypatch.setattr(rows, "CPU_SLOTS", 1)
  monkeypatch.setattr(rows, "_LEAST", 16)
  asked = [
    (ids(word * n), ids(f" {letter}"))
    for n, word in enumerate(("ab", "cde", "fghi"), start=3)
    for letter in "xyz"
  ]
  asked = [*likelihood.encoded(reader(), [("", "what")]), *asked]
  whole = dict(enumerate(likelihood.of_tokens(reader(), asked)))
  known = {*range(len(asked))} - {8}
  batches = list(likelihood.by_batch(reader(), asked, known))
  rest = {place: one for some in batches for place, one in some.items()}
  assert rest == {n: one for n, one in whole.items() if n not in known}
  everything = list(likelihood.by_batch(reader(), asked))
  assert len(batches) < len(everything), "a batch of known ones is left out"


def test_more_continuations_than_an_item_holds(monkeypatch):
  monkeypatch.setattr(rows, "_LEAST", 16)
  asked = [("the cat", f" {letter} is") for letter in "abcdefgh"]
  found = likelihood.of_texts(reader(), asked)
  for (context, continuation), one in zip(asked, found, strict=True):
    before = (*TOKENIZER.start_ids, *ids(context))
    expected, _ = by_hand(before, ids(continuation))
    assert one.logprob == pytest.approx(expected, rel=1e-4)


# Rows


PAIRS = [
  ((5, 6, 7), (8, 9)),
  ((5, 6), (8,)),
  ((5, 6, 7), (3, 4, 2)),
  ((5, 6), ()),
]


def test_rows_hold_contexts_once_and_no_last_token():
  laid = rows.laid(PAIRS, reader().mesh)
  (batch,) = laid.batches()
  table = {name: x[0] for name, x in batch.table.items()}
  # The first item: its context, 8 of the first continuation, 3 and 4 of the
  # other; then the second item, whose continuation needs no slot.
  assert table["tokens"][:9].tolist() == [5, 6, 7, 8, 3, 4, 5, 6, 0]
  assert table["positions"][:8].tolist() == [0, 1, 2, 3, 3, 4, 0, 1]
  assert table["segments"][:9].tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 0]
  assert table["branches"][:8].tolist() == [0, 0, 0, 1, 2, 2, 0, 0]
  asked = batch.is_asked[0]
  assert table["at"][asked].tolist() == [2, 3, 2, 4, 5, 7]
  assert table["target"][asked].tolist() == [8, 9, 3, 4, 2, 8]
  assert batch.place[0][asked].tolist() == [0, 0, 2, 2, 2, 1]
  assert not batch.is_asked[1:].any()
  assert laid.padding == 1 - 8 / batch.table["tokens"].size


@pytest.mark.parametrize("count", [1, 7, 60])
def test_every_continuation_has_its_place_and_little_is_padding(count):
  rng = np.random.default_rng(count)
  pairs = []
  for n in range(count):
    context = (n, *rng.integers(1, 9, rng.integers(40, 400)))
    pairs += [(context, (n,) * rng.integers(1, 60)) for _ in range(4)]
  laid = rows.laid(pairs, reader().mesh)
  batches = list(laid.batches())
  places = np.concatenate([x.place[x.is_asked] for x in batches])
  sizes = [len(ids) for _, ids in pairs]
  assert np.bincount(places).tolist() == sizes
  assert len({x.table["tokens"].shape for x in batches}) == 1
  if count == 60:
    assert laid.padding < 0.15
  for one in batches:  # no token is computed twice but contexts of split items
    assert one.table["tokens"].shape[1] >= 512


def test_more_may_be_asked_for_than_there_are_slots():
  """Behind a context of one token: texts from their beginning."""
  pairs = [((1,), (2, 3, n)) for n in range(400)]
  laid = rows.laid(pairs, reader().mesh)
  batches = list(laid.batches())
  places = np.concatenate([x.place[x.is_asked] for x in batches])
  assert np.bincount(places).tolist() == [3] * 400
  tokens = sum(int((x.table["segments"] > 0).sum()) for x in batches)
  items = sum(len(row) for row in laid.items)
  assert tokens == 2 * 400 + items


def test_few_are_asked_where_continuations_are_short():
  pairs = [((1,) * 100 + (n,), (2, 3)) for n in range(20)]
  laid = rows.laid(pairs, reader().mesh)
  (batch,) = laid.batches()
  assert batch.is_asked.shape[1] == batch.table["tokens"].shape[1] // 8
  assert batch.is_asked.sum() == 40


@pytest.mark.parametrize(
  ("least", "widths"),
  [
    (512, [512, 768, 1024]),
    (513, [768, 1024, 1536]),
    (1025, [1536, 2048, 3072]),
  ],
)
def test_widths(least, widths):
  assert rows._widths(least) == widths


def test_long_contexts_lose_their_beginning():
  long, after = ids("abcdefgh" * 10), ids("xyz")
  (found,) = likelihood.of_tokens(reader(), [(long, after)])
  # The last token is predicted, not read: z needs no room.
  kept = long[2 - REACH :]
  expected, _ = by_hand(kept, after)
  assert found.is_cut
  assert found.logprob == pytest.approx(expected, rel=1e-4)
  (found,) = likelihood.of_tokens(reader(), [(kept, after)])
  assert not found.is_cut


def test_a_continuation_longer_than_the_model_reads_is_read_at_its_end():
  after = ids("abcdefgh" * 10)
  (found,) = likelihood.of_tokens(reader(), [(ids("x"), after)])
  expected, _ = by_hand(after[-REACH - 1 : -REACH], after[-REACH:])
  assert found.is_cut
  assert found.tokens == REACH
  assert found.logprob == pytest.approx(expected, rel=1e-4)


def test_nothing_asked():
  assert likelihood.of_texts(reader(), []) == []


def test_the_mean_is_by_token():
  assert likelihood.Likelihood(-6.0, 3, is_greedy=False).mean == -2
  assert likelihood.Likelihood(0.0, 0, is_greedy=True).mean == 0
