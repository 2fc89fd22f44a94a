"""Damaged tokenizers: each ends in an error that names the file."""

import json
import random

import pytest
import tokenizers as library

from instruct_jax import tokenizers
from instruct_jax.base import errors
from tests import pretrained_test as made
from tests import pretrained_tokenizers_test as toys

JSON, MODEL = "tokenizer.json", "tokenizer.model"
CONFIG = "tokenizer_config.json"
TOKEN = {
  "id": 256,
  "content": "<new>",
  "single_word": False,
  "lstrip": False,
  "rstrip": False,
  "normalized": False,
  "special": True,
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
  """The files of a whole tokenizer of each kind."""
  folder = tmp_path_factory.mktemp("good")
  toys.hf_files(folder / "hf")
  toys.gpt2_files(folder / "gpt2")
  found = {
    kind: {path.name: path.read_bytes() for path in (folder / kind).iterdir()}
    for kind in ("hf", "gpt2")
  }
  found["sentencepiece"] = {MODEL: made.sentencepiece_model()}
  return found


def fails(folder, files, name):
  """Loading such a folder is an error of this file; its message."""
  folder = made.written(folder, files)
  with pytest.raises(errors.UserError) as found:
    tokenizers.load(folder)
  assert str(folder / name) in str(found.value)
  return str(found.value)


def whole(good):
  return json.loads(good["hf"][JSON])


@pytest.mark.parametrize(
  ("tokens", "message"),
  [
    ([TOKEN | {"id": 300}], "256 is the next"),
    ([TOKEN | {"id": 5}], "256 is the next"),
    ([TOKEN, TOKEN | {"content": "<other>"}], "257 is the next"),
    ([TOKEN, TOKEN | {"id": 257}], "256 is the next"),
    ([TOKEN | {"content": "a"}], "is the next"),
    ([TOKEN | {"id": -1}], "cannot use it"),
    ([TOKEN | {"id": 2**40}], "cannot use it"),
    ([TOKEN | {"content": 3}], "cannot use it"),
    ([TOKEN | {"special": "yes"}], "cannot use it"),
    (["<new>"], "cannot use it"),
    ({"<new>": 256}, "cannot use it"),
  ],
)
def test_added_tokens_have_the_ids_that_they_claim(
  tokens, message, good, tmp_path
):
  changed = whole(good) | {"added_tokens": tokens, "post_processor": None}
  files = good["hf"] | {JSON: changed}
  assert message in fails(tmp_path, files, JSON)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda v: v | {"a": v["b"]}, "have the id"),
    (lambda v: {k: i for k, i in v.items() if k != "a"}, "no token has"),
    (lambda v: {k: i + 1 for k, i in v.items()}, "no token has the id 0"),
    (lambda v: v | {"zz": 10**9}, "out of range"),
    (lambda v: v | {"zz": True}, "should be a number"),
    (lambda v: v | {"zz": None}, "should be a number"),
    (lambda v: v | {"zz": "256"}, "should be a number"),
    (lambda v: v | {"zz": 256.0}, "should be a number"),
    (lambda v: v | {"zz": [256]}, "should be a number"),
    (lambda v: {}, "without tokens"),
    (lambda v: {k: i for k, i in v.items() if i < 255}, "25"),
    (lambda v: ["a", "b"], ""),
    (lambda v: None, ""),
  ],
)
@pytest.mark.parametrize("kind", ["hf", "gpt2"])
def test_ids_of_a_vocabulary_are_whole(kind, change, message, good, tmp_path):
  if kind == "gpt2":
    changed = change(json.loads(good["gpt2"]["encoder.json"]))
    files = {"encoder.json": changed, "vocab.bpe": b"#version: 0.2\n"}
    found = fails(tmp_path, files, "encoder.json")
  else:
    model = whole(good)["model"]
    model = model | {"vocab": change(model["vocab"])}
    files = good["hf"] | {JSON: whole(good) | {"model": model}}
    found = fails(tmp_path, files, JSON)
  assert message in found


@pytest.mark.parametrize(
  ("lines", "place"),
  [
    (b"t h\n", 7),  # once more
    (b"t\n", 7),
    (b"t  h\n", 7),
    (b" t h\n", 7),
    (b"t h e\n", 7),
    (b"t\th\n", 7),
    (b"q q\n", 7),
    (b"\n\nzz q\n", 9),
    (b"#version: 0.2\n", 7),
    (b"t h\x00\n", 7),
    (b"\xc3(\n", ""),
    (b"\x85\n", ""),
  ],
)
def test_bad_merges_are_named_by_line(lines, place, good, tmp_path):
  files = dict(good["gpt2"])
  files["vocab.bpe"] += lines
  found = fails(tmp_path, files, "vocab.bpe")
  assert f"vocab.bpe:{place}" in found


@pytest.mark.parametrize(
  ("name", "content"),
  [
    (CONFIG, {"eos_token": "<nothing>"}),
    (CONFIG, {"eos_token": {"content": 3}}),
    (CONFIG, {"eos_token": {"contents": "<|end|>"}}),
    (CONFIG, {"bos_token": []}),
    (CONFIG, {"pad_token": True}),
    (CONFIG, {"chat_template": [3]}),
    (CONFIG, {"chat_template": [{"name": "default", "template": 3}]}),
    (CONFIG, {"add_bos_token": "no", "eos_token": "</s>"}),
    (CONFIG, []),
    (CONFIG, b""),
    (CONFIG, b"\xff{}"),
    (CONFIG, b'{"eos_token": "a", "eos_token": "b"}'),
    (CONFIG, b'{"a":' * 100_000),
    (CONFIG, b'{"eos_token": "\\ud800"}'),
    ("special_tokens_map.json", {"pad_token": "<nothing>"}),
    ("special_tokens_map.json", [1]),
    ("generation_config.json", {"eos_token_id": 10**6}),
    ("generation_config.json", {"eos_token_id": [2, None]}),
    ("generation_config.json", {"eos_token_id": True}),
    ("generation_config.json", {"eos_token_id": 1.0}),
    ("generation_config.json", b"nothing"),
    ("config.json", {"eos_token_id": "</s>"}),
    ("config.json", b"{"),
    ("chat_template.jinja", b"\xff\xfe"),
  ],
)
def test_what_stands_beside_a_tokenizer_is_checked(
  name, content, good, tmp_path
):
  fails(tmp_path, good["sentencepiece"] | {name: content}, name)


def test_other_classes_are_not_read_from_a_vocabulary(good, tmp_path):
  files = good["gpt2"] | {CONFIG: {"tokenizer_class": "Qwen2Tokenizer"}}
  assert "Qwen2Tokenizer" in fails(tmp_path, files, CONFIG)
  files = good["gpt2"] | {CONFIG: {"tokenizer_class": "GPT2Tokenizer"}}
  assert tokenizers.load(made.written(tmp_path / "b", files)).kind == "gpt2"


@pytest.mark.parametrize("kind", ["word", "char"])
def test_other_sentencepiece_models_are_named(kind, tmp_path):
  model = made.sentencepiece_model(kind, byte_fallback=False)
  assert f"a {kind.upper()} model" in fails(tmp_path, {MODEL: model}, MODEL)


def test_words_without_a_token_for_the_unknown_are_an_error(tmp_path):
  words = library.models.WordLevel({"a": 0, "b": 1})
  found = made.hf(tmp_path, library.Tokenizer(words), eos_token="b")
  with pytest.raises(errors.UserError, match=JSON):
    found.encode("c")


@pytest.mark.parametrize("kind", ["hf", "gpt2", "sentencepiece"])
def test_cut_and_flipped_files_end_in_an_error_or_load(kind, good, tmp_path):
  """A flipped byte may leave a whole file; nothing else is raised."""
  draw, count = random.Random(0), 0
  name = {"hf": JSON, "gpt2": "encoder.json", "sentencepiece": MODEL}[kind]
  for n in range(80):
    content = bytearray(good[kind][name])
    if n % 2:
      content = content[: draw.randrange(len(content))]
    else:
      for _ in range(1 + n // 8):
        content[draw.randrange(len(content))] = draw.randrange(256)
    folder = made.written(
      tmp_path / str(n), good[kind] | {name: bytes(content)}
    )
    try:
      tokenizers.load(folder).encode("the cat")
    except errors.UserError as error:
      count += str(folder) in str(error)
  assert count >= 30


def test_a_damaged_description_is_an_error(good, tmp_path):
  saved = tokenizers.load(made.written(tmp_path / "in", good["hf"]))
  saved.save(tmp_path / "out")
  path = tmp_path / "out" / tokenizers.INFO_FILE
  info = json.loads(path.read_text())
  for content in (
    *(path.read_bytes()[:n] for n in range(0, 60, 10)),
    b"\xff",
    b"[" * 100_000,
    *(json.dumps(x).encode() for x in (
      [], None, {}, info | {"kind": 3}, info | {"kind": ["hf"]},
      info | {"kind": "gpt2"}, info | {"kind": "sentencepiece"},
      info | {"kind": "word", "model": "x"}, info | {"kind": "bpe"},
      info | {"files": 3}, info | {"files": {}}, info | {"files": [1]},
      info | {"files": {"../x": "y"}}, {"kind": "hf"},
      info | {"files": info["files"] | {"more.json": "0"}},
      {"kind": "unigram", "model": None}, {"kind": "word", "model": 3},
    )),
  ):  # fmt: skip
    path.write_bytes(content)
    with pytest.raises(errors.UserError, match=str(tmp_path / "out")):
      tokenizers.load(tmp_path / "out")
