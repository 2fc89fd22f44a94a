"""Tokenizers of pretrained models: read, kept, exported, and damaged."""

import json
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tokenizers as library

from instruct_jax import tokenizers
from instruct_jax.base import errors

PUBLIC = pathlib.Path(__file__).parents[2] / "shared" / "data"
END = "<|endoftext|>"
TEXTS = (
  "Hello world!  Two  spaces,\ttabs\r\n\r\nand   lines \n",
  "naïve café — “quotes” … ½ ﬁ e\u0301 ñ ß İ",
  "Русский текст, 日本語のテキスト, 한국어, ไทย, العربية, עברית, हिन्दी",
  "🤗 👩‍👩‍👧‍👦 🇫🇷 \u200d\u200b\ufeff \U0001f9d1\U0001f3fd",
  " leading, trailing ",
  "",
  "can't won't I'LL we'd 12345 3.14 _under_ CamelCase http://x.y/z?a=b",
  f"text that spells {END} and <|im_end|> and <pad>",
)

ODD = (
  "\u00a0no\u2003break \u3000wide\u2028line\u2029paragraph\x85\x0b\x0c\x1c",
  "a\r\nb\rc\n\n\n\t\t d   \r\n",
  "Ελληνικά, ქართული, հայերեն, አማርኛ, বাংলা, தமிழ், ਪੰਜਾਬੀ, မြန်မာ, ខ្មែរ, བོད་",
  "Z\u0351\u0301a\u0323\u0307lgo \u1100\u1161 が か\u3099 \u0915\u094d\u0937",
  "٣٤٥ ४५६ Ⅷ ² ① 𝟘𝟙 𝕳𝖊 𐍈 \U0010ffff \ufffd \x00\x7f",
  "1st 2nd's 'sll 'LL’s ’re d'accord—don't ...!!?? <<>> £€¥",
)


def byte_alphabet():
  return sorted(library.pre_tokenizers.ByteLevel.alphabet())


def gpt2_files(folder, names=("encoder.json", "vocab.bpe")):
  """A small byte-level vocabulary with some merges."""
  vocabulary = {symbol: i for i, symbol in enumerate(byte_alphabet())}
  merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("an", "d")]
  for pair in merges:
    vocabulary["".join(pair)] = len(vocabulary)
  vocabulary[END] = len(vocabulary)
  folder.mkdir(exist_ok=True)
  (folder / names[0]).write_text(json.dumps(vocabulary))
  lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
  (folder / names[1]).write_text("\n".join(lines))
  return vocabulary


def hf_files(folder, *, pad=None, config=None):
  """A tokenizer.json with a BOS in front, as Llama 3 has it."""
  folder.mkdir(exist_ok=True)
  alphabet = {symbol: i for i, symbol in enumerate(byte_alphabet())}
  made = library.Tokenizer(library.models.BPE(alphabet, []))
  made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = library.decoders.ByteLevel()
  special = ["<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>"]
  special += [pad] if pad else []
  made.add_special_tokens(special)
  made.post_processor = library.processors.TemplateProcessing(
    single="<|begin|> $A", special_tokens=[("<|begin|>", 256)]
  )
  made.save(str(folder / "tokenizer.json"))
  about = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
  about |= {"pad_token": pad} if pad else {}
  about |= config or {}
  (folder / "tokenizer_config.json").write_text(json.dumps(about))
  return folder


def test_gpt2s_files_are_read(tmp_path):
  vocabulary = gpt2_files(tmp_path / "a")
  gpt2_files(tmp_path / "b", ("vocab.json", "merges.txt"))
  for name in "ab":
    found = tokenizers.load(tmp_path / name)
    end = vocabulary[END]
    assert (found.kind, found.vocab_size) == ("gpt2", len(vocabulary))
    assert found.eot_id == end
    assert (found.start_ids, found.stop_ids) == ((), (end,))
    assert found.pad_id == len(vocabulary)  # past the table
    assert found.encode("and the") == [vocabulary["and"], vocabulary["Ġthe"]]


@pytest.mark.parametrize("kind", ["gpt2", "hf"])
@hypothesis.settings(
  deadline=None,
  max_examples=60,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(text=st.text() | st.sampled_from(TEXTS))
def test_every_text_comes_back(kind, text, tmp_path):
  make = {"gpt2": gpt2_files, "hf": hf_files}[kind]
  if not (tmp_path / kind).exists():
    make(tmp_path / kind)
  found = tokenizers.load(tmp_path / kind)
  ids = found.encode(text)
  assert found.decode(ids) == text
  assert found.encode_batch([text, "x"])[0] == ids
  hidden = {found.pad_id, *found.special_ids.values()}
  assert not hidden & set(ids)


@pytest.mark.parametrize("kind", ["gpt2", "hf", "sentencepiece"])
@hypothesis.settings(
  deadline=None,
  max_examples=60,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(texts=st.lists(st.text() | st.sampled_from(TEXTS + ODD)))
def test_arrays_are_what_is_encoded_one_by_one(kind, texts, tmp_path):
  make = {"gpt2": gpt2_files, "hf": hf_files}.get(kind, sentencepiece_files)
  if not (tmp_path / kind).exists():
    make(tmp_path / kind)
  found = tokenizers.load(tmp_path / kind)
  rows = found.encode_arrays(texts)
  assert [row.tolist() for row in rows] == [*map(found.encode, texts)]
  assert all((row.dtype, row.ndim) == (np.int32, 1) for row in rows)


def test_padding_and_ends_leave_no_trace(tmp_path):
  found = tokenizers.load(hf_files(tmp_path / "t"))
  ids = [*found.start_ids, *found.encode("hi"), found.eot_id, found.pad_id]
  assert found.decode(ids) == "hi"


def test_what_starts_and_ends_a_text(tmp_path):
  folder = hf_files(tmp_path / "t")
  (folder / "generation_config.json").write_text(
    json.dumps({"eos_token_id": [257, 259]})
  )
  found = tokenizers.load(folder)
  assert found.start_ids == (256,)
  assert found.eot_id == 257
  assert found.stop_ids == (257, 259)
  assert found.special_ids["<|im_start|>"] == 258


@pytest.mark.parametrize(
  ("pad", "config", "expected"),
  [
    (None, {}, 260),  # none: past the table
    (None, {"pad_token": "<|end|>"}, 260),  # the end itself: not that
    (None, {"pad_token": {"content": "<|im_end|>"}}, 259),
    ("<|pad|>", {}, 260),
  ],
)
def test_padding_is_never_the_end(pad, config, expected, tmp_path):
  found = tokenizers.load(hf_files(tmp_path / "t", pad=pad, config=config))
  assert found.pad_id == expected
  assert found.pad_id not in (found.eot_id, *found.stop_ids)


def test_chat_templates_are_found(tmp_path):
  folder = hf_files(tmp_path / "t", config={"chat_template": "one"})
  assert tokenizers.load(folder).chat_template == "one"
  both = [
    {"name": "tool_use", "template": "tools"},
    {"name": "default", "template": "two"},
  ]
  folder = hf_files(tmp_path / "t", config={"chat_template": both})
  assert tokenizers.load(folder).chat_template == "two"
  (folder / "chat_template.jinja").write_text("three")
  assert tokenizers.load(folder).chat_template == "three"


@pytest.mark.parametrize("kind", ["gpt2", "hf"])
def test_saved_files_are_those_that_were_read(kind, tmp_path):
  {"gpt2": gpt2_files, "hf": hf_files}[kind](tmp_path / "in")
  before = tokenizers.load(tmp_path / "in")
  before.save(tmp_path / "run" / "tokenizer")
  after = tokenizers.load(tmp_path / "run")
  for name in ("kind", "vocab_size", "pad_id", "start_ids", "stop_ids"):
    assert getattr(after, name) == getattr(before, name)
  assert after.encode_batch(TEXTS) == before.encode_batch(TEXTS)
  for file in (tmp_path / "in").iterdir():
    copy = tmp_path / "run" / "tokenizer" / file.name
    assert copy.read_bytes() == file.read_bytes()
  file = next(iter(before.files))
  path = tmp_path / "run" / "tokenizer" / file
  path.write_bytes(path.read_bytes() + b" ")
  with pytest.raises(errors.UserError, match="digest differs"):
    tokenizers.load(tmp_path / "run")


def exported(found, folder):
  found.export(folder)
  return library.Tokenizer.from_file(str(folder / "tokenizer.json"))


def trained(kind, folder):
  texts = [*TEXTS[:7], "the cat sat on the mat and the dog sat too " * 9]
  if kind == "word":
    texts = ["the cat sat on the mat\nand the dog sat"]
  size = {"word": 99, "byte": 0}.get(kind, 480)
  return tokenizers.train(texts, folder, kind=kind, vocab_size=size)


@pytest.mark.parametrize("kind", ["unigram", "bpe", "byte", "gpt2", "hf"])
def test_an_export_gives_the_same_ids(kind, tmp_path):
  if kind in ("gpt2", "hf"):
    {"gpt2": gpt2_files, "hf": hf_files}[kind](tmp_path / "in")
    found = tokenizers.load(tmp_path / "in")
  else:
    found = trained(kind, tmp_path / "in")
  theirs = exported(found, tmp_path / "out")
  for text in TEXTS[:7]:
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ids == found.encode(text), text
    assert theirs.decode(ids) == found.decode(ids)


def test_an_exported_word_tokenizer_knows_the_same_words(tmp_path):
  found = trained("word", tmp_path / "in")
  theirs = exported(found, tmp_path / "out")
  for text in ("the cat sat", "the dog\nsat on the mat", "the bird sat"):
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ids == found.encode(text), text
  assert theirs.encode("the cat").ids[0] == found.eot_id


def sentencepiece_files(folder):
  """A SentencePiece BPE with a dummy prefix, as Llama 2 has it."""
  import io

  import sentencepiece

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["the cat sat on the mat and the dog"] * 9),
    model_writer=model,
    model_type="bpe",
    vocab_size=300,
    hard_vocab_limit=False,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    byte_fallback=True,
    minloglevel=2,
  )
  folder.mkdir()
  (folder / "tokenizer.model").write_bytes(model.getvalue())
  return folder


def test_a_sentencepiece_model_has_its_own_ids(tmp_path):
  found = tokenizers.load(sentencepiece_files(tmp_path / "in"))
  assert found.kind == "sentencepiece"
  assert (found.eot_id, found.start_ids, found.pad_id) == (
    2,
    (1,),
    found.vocab_size,
  )
  assert found.decode(found.encode("the café sat")) == "the café sat"
  theirs = exported(found, tmp_path / "out")
  for text in ("the cat sat", "a café, 日本", "two  spaces\nline"):
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ids == found.encode(text), text
  assert theirs.encode("the").ids[0] == 1


def test_gpt2s_real_files_tokenize_as_published():
  if not PUBLIC.exists():
    pytest.skip(f"{PUBLIC} is not here: GPT-2's own files")
  found = tokenizers.load(PUBLIC / "gpt2_bpe")
  assert found.encode("Hello world") == [15496, 995]
  assert (found.eot_id, found.pad_id) == (50256, 50257)
  for text in TEXTS:
    assert found.decode(found.encode(text)) == text


@pytest.mark.parity
def test_gpt2_tokenizes_as_transformers_does(tmp_path):
  transformers = pytest.importorskip("transformers")
  if not PUBLIC.exists():
    pytest.skip(f"{PUBLIC} is not here: GPT-2's own files")
  found = tokenizers.load(PUBLIC / "gpt2_bpe")
  found.export(tmp_path / "out")
  exported_too = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
  files = PUBLIC / "gpt2_bpe"
  theirs = transformers.GPT2TokenizerFast(
    vocab=json.loads((files / "encoder.json").read_text()),
    merges=[
      tuple(line.split(" "))
      for line in (files / "vocab.bpe").read_text().split("\n")[1:-1]
    ],
  )
  texts = [*TEXTS[:7]]
  for name in ("text_wikitext2/test.txt", "hh_rlhf/README.md"):
    texts += (PUBLIC / name).read_text()[:100_000].split("\n\n")
  for text in texts:
    ids = found.encode(text)
    assert theirs(text)["input_ids"] == ids
    assert exported_too(text)["input_ids"] == ids


@pytest.mark.parity
@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"),
                                   ("encoder.json", "vocab.bpe")])  # fmt: skip
def test_files_like_gpt2s_tokenize_as_transformers_does(names, tmp_path):
  """Merges that are learned from many scripts, and text in all of them."""
  transformers = pytest.importorskip("transformers")
  texts = [*TEXTS[:7], *ODD]
  made = library.ByteLevelBPETokenizer(add_prefix_space=False)
  made.train_from_iterator(texts * 3, vocab_size=700, special_tokens=[END])
  made.save_model(str(tmp_path))
  for old, new in zip(("vocab.json", "merges.txt"), names):
    (tmp_path / old).rename(tmp_path / new)
  lines = (tmp_path / names[1]).read_text(encoding="utf-8").split("\n")[1:-1]
  theirs = transformers.GPT2TokenizerFast(
    vocab=json.loads((tmp_path / names[0]).read_text(encoding="utf-8")),
    merges=[tuple(line.split(" ")) for line in lines],
  )
  found = tokenizers.load(tmp_path)
  assert len(lines) > 200
  for text in [*texts, "".join(texts), "\r\n".join(reversed(texts))]:
    ids = found.encode(text)
    assert ids == theirs(text)["input_ids"], repr(text)
    assert found.decode(ids) == text


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["unigram", "bpe", "word", "byte", "hf"])
def test_transformers_loads_what_is_exported(kind, tmp_path):
  transformers = pytest.importorskip("transformers")
  if kind == "hf":
    found = tokenizers.load(hf_files(tmp_path / "in"))
  else:
    found = trained(kind, tmp_path / "in")
  found.export(tmp_path / "out")
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
  text = "the cat sat on the mat"
  assert theirs(text, add_special_tokens=False)["input_ids"] == found.encode(
    text
  )
  assert theirs(text)["input_ids"][0] == found.start_ids[0]
  assert theirs.eos_token_id == found.eot_id


def damaged(folder):
  """(what is wrong, files) of many bad tokenizers."""
  good = gpt2_files(folder / "good")
  hf_files(folder / "hf")
  encoder = (folder / "good" / "encoder.json").read_bytes()
  merges = (folder / "good" / "vocab.bpe").read_bytes()
  whole = (folder / "hf" / "tokenizer.json").read_bytes()
  about = json.loads((folder / "hf" / "tokenizer_config.json").read_text())

  def gpt2(**changes):
    return {"encoder.json": encoder, "vocab.bpe": merges} | {
      name.replace("_", "."): content for name, content in changes.items()
    }

  def hf(content=whole, **config):
    made = {"tokenizer.json": content}
    made["tokenizer_config.json"] = json.dumps(about | config).encode()
    return made

  for size in range(0, len(whole) - 1, len(whole) // 25):
    yield f"tokenizer.json cut at {size}", hf(whole[:size])
  for size in range(0, len(encoder) - 1, len(encoder) // 10):
    yield f"encoder.json cut at {size}", gpt2(encoder_json=encoder[:size])
  for raw in (b"[]", b"3", b"null", b'"x"', b"{}", b"\xff\xfe", b"[" * 99_999,
              b'{"a": 1, "a": 2}', b'{"a": "1"}', b'{"a": -1}', b'{"a": 1.5}',
              b'{"a": null}', b'{"a": 99999999999}',
              b'{"\\ud800": 1}'):  # fmt: skip
    yield f"encoder.json {raw[:20]!r}", gpt2(encoder_json=raw)
    yield f"tokenizer.json {raw[:20]!r}", hf(raw)
  twice = json.dumps(good | {"t": good["h"]}).encode()
  yield "two tokens with one id", gpt2(encoder_json=twice)
  for line in (b"t", b"t h e", b"t xyzzy", b"xyzzy t", b"  ", b"h t", b"\xff"):
    if line.strip():
      yield f"a merge {line!r}", gpt2(vocab_bpe=merges + line + b"\n")
  parsed = json.loads(whole)
  for key, value in (
    ("model", None),
    ("model", 3),
    ("model", {"type": "WordPiece"}),
    ("model", {"type": "Magic"}),
    ("model", parsed["model"] | {"vocab": []}),
    ("model", parsed["model"] | {"vocab": {"a": -1}}),
    ("model", parsed["model"] | {"merges": [["x", "y"]]}),
    ("model", parsed["model"] | {"merges": 3}),
    ("added_tokens", 3),
    ("added_tokens", [{"id": "x"}]),
    ("pre_tokenizer", {"type": "Magic"}),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "["},
                       "behavior": "Removed", "invert": False}),
    # The library panics.
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    ("post_processor", {"type": "TemplateProcessing"}),
    ("decoder", 3),
  ):  # fmt: skip
    changed = json.dumps(parsed | {key: value}).encode()
    yield f"{key} {str(value)[:30]}", hf(changed)
  for config in (
    {"eos_token": "<nothing>"},
    {"eos_token": 3},
    {"pad_token": "<nothing>"},
    {"bos_token": ["x"]},
    {"chat_template": 3},
    {"eos_token": None},
  ):
    yield f"config {config}", hf(**config)
  for raw in (
    b"{",
    b"[]",
    b"\xff",
    b'{"eos_token_id": "x"}',
    b'{"eos_token_id": [1, "x"]}',
    b'{"eos_token_id": -1}',
  ):
    yield f"generation {raw!r}", hf() | {"generation_config.json": raw}
  for raw in (b"", b"x", b"\x00" * 64, b"\xff" * 1000):
    yield f"tokenizer.model {raw[:4]!r}", {"tokenizer.model": raw}


def test_damaged_files_are_named(tmp_path):
  count = 0
  for name, files in damaged(tmp_path):
    count += 1
    folder = tmp_path / f"{count}"
    folder.mkdir()
    for file, content in files.items():
      (folder / file).write_bytes(content)
    with pytest.raises(errors.UserError) as found:
      tokenizers.load(folder)
    assert str(folder) in str(found.value), name
  assert count >= 80


def test_a_folder_without_a_tokenizer_lists_what_was_looked_for(tmp_path):
  with pytest.raises(errors.UserError, match=r"encoder\.json \+ vocab\.bpe"):
    tokenizers.load(tmp_path)
