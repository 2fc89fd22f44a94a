"""tokenizer.json and GPT-2's files, read with care into a `json_codec`."""

import tokenizers as library
from etils import epath

from instruct_jax.base import errors
from instruct_jax.tokenizers import files, json_codec

_GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")


def open_json(folder: epath.Path, contents: files.Files) -> json_codec.Backend:
  """The tokenizer of a tokenizer.json."""
  where = folder / files.JSON
  whole = files.json_object(contents, files.JSON, folder)
  model = whole.get("model")
  if not isinstance(model, dict) or "vocab" not in model:
    raise errors.UserError(
      f'{where}: "model" should be an object with a "vocab".'
    )
  if isinstance(model["vocab"], dict):
    # The library gives added tokens ids from their number on.
    files.check_ids(model["vocab"], where)
  content = files.text(contents, files.JSON, folder)
  tokenizer = json_codec.guarded(where, library.Tokenizer.from_str, content)
  for token in whole.get("added_tokens") or []:
    ours = tokenizer.token_to_id(token["content"])
    if ours != token["id"]:
      raise errors.UserError(
        f"{where}: the added token {token['content'][:40]!r} has the id"
        f" {token['id']}, where {ours} is the next that is free."
      )
  _check_bytes(tokenizer, where)
  return json_codec.Backend(
    tokenizer, where, unknown_id=_unknown(model, tokenizer)
  )


def open_gpt2(folder: epath.Path, contents: files.Files) -> json_codec.Backend:
  """GPT-2's tokenizer, of its vocabulary and its list of merges."""
  first, second = next(p for p in files.PAIRS if all(n in contents for n in p))
  where = folder / first
  if files.CONFIG in contents:
    _check_class(files.json_object(contents, files.CONFIG, folder), folder)
  vocabulary = files.json_object(contents, first, folder)
  files.check_ids(vocabulary, where)
  merges = _merges(
    files.text(contents, second, folder), vocabulary, folder, second
  )

  def build():
    tokenizer = library.Tokenizer(library.models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(
      add_prefix_space=False
    )
    tokenizer.decoder = library.decoders.ByteLevel()
    if json_codec.END_OF_TEXT in vocabulary:
      token = library.AddedToken(
        json_codec.END_OF_TEXT, special=True, normalized=False
      )
      tokenizer.add_special_tokens([token])
    return tokenizer

  tokenizer = json_codec.guarded(where, build)
  _check_bytes(tokenizer, where)
  return json_codec.Backend(tokenizer, where, bos=json_codec.END_OF_TEXT)


def _unknown(model, tokenizer):
  """The id of text that a model's vocabulary does not cover, if it has one."""
  if model.get("unk_token") is not None:
    return tokenizer.token_to_id(model["unk_token"])
  return model.get("unk_id")


def _check_bytes(tokenizer, where):
  """UserError where a byte-level model would lose bytes without a word."""
  steps = tokenizer.pre_tokenizer
  if "ByteLevel" not in repr(steps):
    return
  known = tokenizer.get_vocab(with_added_tokens=False)
  lacking = sorted(
    set(library.pre_tokenizers.ByteLevel.alphabet()) - known.keys()
  )
  if lacking:
    raise errors.UserError(
      f"{where}: {len(lacking)} of the 256 bytes have no token, among them"
      f" {lacking[0]!r}: text with them would be lost."
    )


def _check_class(config, folder):
  name = config.get("tokenizer_class", _GPT2_CLASSES[0])
  if name not in _GPT2_CLASSES:
    raise errors.UserError(
      f'{folder / files.CONFIG}: "tokenizer_class" is {str(name)[:40]!r}; only'
      f" {_GPT2_CLASSES[0]} is read from a vocabulary and merges. Save the"
      f" tokenizer with its {files.JSON}."
    )


def _merges(text, vocabulary, folder, name):
  merges = {}
  for number, line in enumerate(text.split("\n"), 1):
    line = line.removesuffix("\r")
    if not line or (number == 1 and line.startswith("#version")):
      continue
    parts = tuple(line.split(" "))
    where = f"{folder / name}:{number}"
    lacking = [x for x in (*parts, "".join(parts)) if x not in vocabulary]
    if len(parts) != 2 or lacking:
      raise errors.UserError(
        f"{where}: two tokens of the vocabulary with a space between are right,"
        f" which together are a token; not {line[:40]!r}."
      )
    if parts in merges:
      raise errors.UserError(
        f"{where}: {line[:40]!r} is already in line {merges[parts]}."
      )
    merges[parts] = number
  return list(merges)
