"""Round trips, special ids and determinism of every kind of tokenizer."""

import json

import hypothesis
import numpy as np
import pytest
import tokenizers as library
from hypothesis import strategies as st

from instruct_jax import tokenizers
from instruct_jax.base import errors

WORDS = [
  "ann",
  "bob",
  "has",
  "likes",
  "in",
  "paris",
  "a",
  "cat",
  "dog",
  ".",
  "?",
]
SPACED = ["ann lives in paris .", "bob has a cat .\nwhat has bob ?", "a dog ."]
PROSE = [
  "The quick brown fox jumps over the lazy dog.\nAnd then it sleeps.",
  'A café in Paris, a naïve waiter; "no" — he said.',
  "  Indented text,   with    spaces, the dog and the fox again.",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SPECIALS = "<pad> <unk> <eot> <s> </s> <0x0A> \u2581 \u23ce \u2581the"

settings = hypothesis.settings(deadline=None, max_examples=200)


@pytest.fixture(scope="module", params=["unigram", "bpe", "byte"])
def lossless(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp(request.param)
  texts = PROSE * 3
  return tokenizers.train(texts, folder, kind=request.param, vocab_size=400)


@pytest.fixture(scope="module")
def word(tmp_path_factory):
  folder = tmp_path_factory.mktemp("word")
  texts = [*SPACED, " ".join(WORDS)]
  return tokenizers.train(texts, folder, kind="word", vocab_size=1000)


@settings
@hypothesis.given(text=TEXT)
@hypothesis.example(text=SPECIALS)
@hypothesis.example(text="\n\n  a \u2581 b\u2581\t\r\n \x00\u0301")
@hypothesis.example(text="日本 😀 \U0010ffff \ufeff")
def test_lossless_round_trip(lossless, text):
  ids = lossless.encode(text)
  assert lossless.decode(ids) == text
  assert not {lossless.pad_id, lossless.eot_id} & set(ids)
  assert lossless.encode_batch([text, "", text]) == [ids, [], ids]


@settings
@hypothesis.given(texts=st.lists(TEXT | st.sampled_from(PROSE), max_size=5))
@hypothesis.example(texts=["", SPECIALS, "", "\x00\x01\x7f\t\r\n\x85", ""])
@hypothesis.example(texts=["\u2581", "日本 😀 \U0010ffff \ufeff", "ann \u23ce"])
def test_arrays_are_what_is_encoded_one_by_one(lossless, word, texts):
  for tokenizer in (lossless, word):
    rows = tokenizer.encode_arrays(texts)
    assert [row.tolist() for row in rows] == [*map(tokenizer.encode, texts)]
    assert all((row.dtype, row.ndim) == (np.int32, 1) for row in rows)


@settings
@hypothesis.given(
  lines=st.lists(st.lists(st.sampled_from(WORDS), max_size=5), max_size=4)
)
def test_word_round_trip(word, lines):
  text = "\n".join(" ".join(line) for line in lines)
  ids = word.encode(text)
  assert word.decode(ids) == text
  assert tokenizers.UNKNOWN_ID not in ids
  assert word.encode_batch([text]) == [ids]


@settings
@hypothesis.given(text=TEXT)
@hypothesis.example(text=SPECIALS)
def test_word_never_encodes_specials(word, text):
  assert not {word.pad_id, word.eot_id} & set(word.encode(text))


def test_special_words_are_unknown_words(word):
  ids = word.encode("ann <pad> bob <eot> cat \u23ce dog \u2581 .")
  assert ids.count(tokenizers.UNKNOWN_ID) == 4
  assert "\n" not in word.decode(ids)


def test_ids(lossless, word):
  for tokenizer in (lossless, word):
    assert isinstance(tokenizer, tokenizers.Tokenizer)
    assert tokenizer.pad_id != tokenizer.eot_id
    assert tokenizer.eot_id in tokenizer.stop_ids
    assert tokenizer.pad_id not in tokenizer.stop_ids
    ids = tokenizer.encode("a dog .")
    padded = [tokenizer.pad_id, *ids, tokenizer.eot_id, tokenizer.pad_id]
    assert tokenizer.decode(padded) == "a dog ."


def test_word_that_only_precedes_a_newline_is_known(tmp_path):
  tokenizer = tokenizers.train(
    ["list :\nann", "bob :\ncat"], tmp_path, kind="word", vocab_size=99
  )
  text = "bob :\nann\n\ncat"
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_newline_is_a_word_of_a_text_without_one(tmp_path):
  tokenizer = tokenizers.train(["a b"], tmp_path, kind="word", vocab_size=99)
  assert tokenizer.decode(tokenizer.encode("a\nb\n")) == "a\nb\n"


def test_normalize_and_unknown_words(word):
  typed = "What  has Bob?\nAnn likes  Zed, and zed."
  assert word.normalize(typed) == "what has bob ?\nann likes zed , and zed ."
  assert word.unknown_words(typed) == ["zed", ",", "and"]
  normal = word.normalize("Ann likes a cat.")
  assert word.decode(word.encode(normal)) == normal


def test_an_export_lowers_and_spaces_what_is_typed(word, tmp_path):
  assert word.export(tmp_path) == ""
  theirs = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  typed = "What has Bob?\nAnn  likes a.cat,in PARIS."
  ids = theirs.encode(typed, add_special_tokens=False).ids
  known = [i for i in ids if i != tokenizers.UNKNOWN_ID]
  ours = word.encode(word.normalize(typed))
  assert known == [i for i in ours if i != tokenizers.UNKNOWN_ID]
  assert len(known) == 13  # the comma alone is unknown
  assert theirs.decode(known[3:6]) == "?\nann"


def test_an_export_says_that_it_cannot_lower_a_vocabulary_with_capitals(
  tmp_path,
):
  made = tokenizers.train(["The cat"], tmp_path, kind="word", vocab_size=99)
  lost = made.export(tmp_path / "out")
  assert "'The'" in lost
  assert "\n" not in lost
  theirs = library.Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))
  ids = theirs.encode("The cat", add_special_tokens=False).ids
  assert ids == made.encode("The cat")


@pytest.mark.parametrize("kind", ["word", "unigram", "bpe", "byte"])
def test_save_and_load(kind, tmp_path):
  texts = PROSE if kind != "word" else SPACED
  made = tokenizers.train(texts, tmp_path / "a", kind=kind, vocab_size=400)
  again = tokenizers.train(texts, tmp_path / "b", kind=kind, vocab_size=400)
  made.save(tmp_path / "set" / "tokenizer")
  tokenizers.load(tmp_path / "set")
  loaded = tokenizers.load(tmp_path / "a")
  assert loaded.kind == made.kind == kind
  assert loaded.vocab_size == made.vocab_size == again.vocab_size
  assert loaded.encode(texts[1]) == made.encode(texts[1])
  for name in (p.name for p in (tmp_path / "a").iterdir()):
    a, b = tmp_path / "a" / name, tmp_path / "b" / name
    assert a.read_bytes() == b.read_bytes(), f"{name}: not deterministic"


@pytest.mark.parametrize("kind", ["unigram", "bpe", "word"])
def test_a_text_that_supports_fewer_pieces_gives_fewer(kind, tmp_path):
  made = tokenizers.train(SPACED, tmp_path, kind=kind, vocab_size=20_000)
  assert made.vocab_size < 500
  info = json.loads((tmp_path / tokenizers.INFO_FILE).read_text())
  assert info["vocab_size"] == made.vocab_size


@pytest.mark.parametrize(
  ("texts", "kind", "size", "message"),
  [
    ([], "unigram", 400, "empty"),
    (["", " \n "], "bpe", 400, "empty"),
    ([""], "word", 400, "empty"),
    (PROSE, "unigram", 100, "at least"),
    (SPACED, "word", 8, "different words"),
    (PROSE, "unigramm", 400, "Did you mean 'unigram'"),
  ],
)
def test_what_cannot_be_trained(texts, kind, size, message, tmp_path):
  with pytest.raises(errors.UserError, match=message):
    tokenizers.train(texts, tmp_path, kind=kind, vocab_size=size)


def test_damage_is_noticed(tmp_path):
  with pytest.raises(errors.UserError, match="no tokenizer here"):
    tokenizers.load(tmp_path)
  tokenizers.train(SPACED, tmp_path, kind="word", vocab_size=99)
  path = tmp_path / tokenizers.MODEL_FILE
  data = bytearray(path.read_bytes())
  data[40] ^= 1
  path.write_bytes(bytes(data))
  with pytest.raises(errors.UserError, match="digest"):
    tokenizers.load(tmp_path)
  (tmp_path / tokenizers.INFO_FILE).write_text("{")
  with pytest.raises(errors.UserError, match="damaged tokenizer"):
    tokenizers.load(tmp_path)
