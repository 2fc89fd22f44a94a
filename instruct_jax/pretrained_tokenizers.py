"""Tokenizers that come with a pretrained model, from the files beside it.

  hf             tokenizer.json, read by the `tokenizers` library
  gpt2           encoder.json + vocab.bpe (or vocab.json + merges.txt)
  sentencepiece  tokenizer.model

What the model ends a text with, starts it with and pads it with stands in
tokenizer_config.json, special_tokens_map.json, generation_config.json and
config.json, in this order. Padding is never the end of a text: where the model
has no padding token of its own it gets an id past its vocabulary, which masks
hide and no embedding is made for.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sentencepiece
import tokenizers as library
from etils import epath

from instruct_jax import errors

JSON_FILE, MODEL_FILE = "tokenizer.json", "tokenizer.model"
PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
CONFIG, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
GENERATION, TEMPLATE = "generation_config.json", "chat_template.jinja"
BESIDE = (CONFIG, SPECIAL, GENERATION, TEMPLATE, "config.json")
_MOST_BYTES = 512 << 20
_MOST_TOKENS = 10_000_000
_END_OF_TEXT = "<|endoftext|>"  # GPT-2's, and everybody's after it

Files = dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class Facts:
  """What the files say of the special tokens."""

  vocab_size: int
  eot_id: int
  pad_id: int
  start_ids: tuple[int, ...]
  stop_ids: tuple[int, ...]
  special_ids: dict[str, int]
  chat_template: str


class PretrainedTokenizer:
  """A tokenizer with the ids of the model that it came with."""

  def __init__(self, kind: str, codec: Any, facts: Facts, files: Files):
    self.kind, self.files, self._codec = kind, files, codec
    for field in dataclasses.fields(facts):
      setattr(self, field.name, getattr(facts, field.name))

  def encode(self, text: str) -> list[int]:
    return self._codec.encode(text)

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    return self._codec.encode_batch(list(texts))

  def decode(self, ids: Iterable[int]) -> str:
    hidden = {self.pad_id, self.eot_id, *self.stop_ids, *self.start_ids}
    kept = [i for i in map(int, ids) if i < self.vocab_size and i not in hidden]
    return self._codec.decode(kept)

  def normalize(self, text: str) -> str:
    return text

  def unknown_words(self, text: str) -> list[str]:
    del text
    return []

  def save(self, folder: Any) -> None:
    """Writes the files as they were read, and a description with digests."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in self.files.items():
      (folder / name).write_bytes(content)
    info = {
      "kind": self.kind,
      "vocab_size": self.vocab_size,
      "files": {
        name: hashlib.sha256(content).hexdigest()
        for name, content in self.files.items()
      },
    }
    (folder / "info.json").write_text(json.dumps(info, indent=2) + "\n")

  def export(self, folder: Any) -> None:
    """Writes the files as they were read, and a tokenizer.json at any rate."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    others = (GENERATION, "config.json")  # the model's, not the tokenizer's
    kept = {k: x for k, x in self.files.items() if k not in others}
    for name, content in kept.items():
      (folder / name).write_bytes(content)
    if JSON_FILE not in kept:
      text = self._codec.backend(self).to_str(pretty=True)
      (folder / JSON_FILE).write_text(text)
    if CONFIG not in kept:
      _write_config(folder, self)


def find(folder: epath.Path) -> str:
  """The kind of tokenizer that a folder of a pretrained model holds, or ''."""
  if (folder / JSON_FILE).exists():
    return "hf"
  if any(all((folder / name).exists() for name in pair) for pair in PAIRS):
    return "gpt2"
  return "sentencepiece" if (folder / MODEL_FILE).exists() else ""


def read(folder: epath.Path, kind: str) -> PretrainedTokenizer:
  """The tokenizer of a folder; `kind` as `find` says.

  Raises UserError that names the file and what is wrong in it.
  """
  names = {"hf": (JSON_FILE,), "sentencepiece": (MODEL_FILE,)}
  if kind == "gpt2":
    pairs = (p for p in PAIRS if all((folder / n).exists() for n in p))
    names["gpt2"] = next(pairs)
  files = {name: _bytes(folder / name) for name in names[kind]}
  there = [name for name in BESIDE if (folder / name).exists()]
  files |= {name: _bytes(folder / name) for name in there}
  codec = CODECS[kind](folder, files)
  facts = _facts(folder, files, codec)
  return PretrainedTokenizer(kind, codec, facts, files)


class _Library:
  """A tokenizer of the `tokenizers` library."""

  bos_id = eos_id = None  # its file does not say

  def __init__(self, backend: library.Tokenizer, where: Any):
    self._backend = backend
    backend.no_padding()
    backend.no_truncation()
    self.vocabulary = backend.get_vocab(with_added_tokens=True)
    _check_vocabulary(self.vocabulary, where)
    self.special_ids = {
      token.content: i
      for i, token in sorted(backend.get_added_tokens_decoder().items())
      if token.special
    }
    self.start_ids = self._start()
    # From here on text that spells a special token is text.
    backend.encode_special_tokens = True

  def _start(self) -> tuple[int, ...]:
    plain = self._backend.encode("a", add_special_tokens=False).ids
    whole = self._backend.encode("a", add_special_tokens=True).ids
    extra = len(whole) - len(plain)
    places = (n for n in range(extra + 1) if whole[n : n + len(plain)] == plain)
    return tuple(whole[: next(places, 0)])

  def encode(self, text: str) -> list[int]:
    return self._backend.encode(text, add_special_tokens=False).ids

  def encode_batch(self, texts: list[str]) -> list[list[int]]:
    found = self._backend.encode_batch_fast(texts, add_special_tokens=False)
    return [one.ids for one in found]

  def decode(self, ids: list[int]) -> str:
    return self._backend.decode(ids, skip_special_tokens=True)

  def backend(self, tokenizer: PretrainedTokenizer) -> library.Tokenizer:
    """The library's tokenizer, special tokens found in text as it does."""
    del tokenizer
    copy = library.Tokenizer.from_str(self._backend.to_str())
    copy.encode_special_tokens = False
    return copy


class _Pieces:
  """A SentencePiece model as a pretrained model has it.

  Most put a space in front of every text, and take one off what they decode:
  a response that is decoded without its prompt has lost a leading space.
  """

  start_ids = ()

  def __init__(self, model: bytes, where: Any):
    self._processor = processor = sentencepiece.SentencePieceProcessor()
    try:
      processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
      raise errors.UserError(
        f"{where}: not a SentencePiece model ({error})."
      ) from None
    count = processor.get_piece_size()
    if not count:
      raise errors.UserError(f"{where}: a SentencePiece model without pieces.")
    pieces = [processor.id_to_piece(i) for i in range(count)]
    self.vocabulary = {piece: i for i, piece in enumerate(pieces)}
    self.special_ids = {
      pieces[i]: i for i in range(count) if processor.is_control(i)
    }
    self.model = model
    self.bos_id, self.eos_id = (
      None if i < 0 else i for i in (processor.bos_id(), processor.eos_id())
    )

  def encode(self, text: str) -> list[int]:
    return self._processor.encode(text)

  def encode_batch(self, texts: list[str]) -> list[list[int]]:
    return self._processor.encode(texts)

  def decode(self, ids: list[int]) -> str:
    return self._processor.decode(ids)

  def backend(self, tokenizer: PretrainedTokenizer) -> library.Tokenizer:
    """The same pieces as the `tokenizers` library takes them."""
    made = of_pieces(self.model)
    made.add_special_tokens(
      [library.AddedToken(s, special=True) for s in self.special_ids]
    )
    if tokenizer.start_ids:
      starts = [
        (made.id_to_token(i), i) for i in dict.fromkeys(tokenizer.start_ids)
      ]
      single = " ".join([*(name for name, _ in starts), "$A"])
      made.post_processor = library.processors.TemplateProcessing(
        single=single, special_tokens=starts
      )
    return made


def of_pieces(model: bytes, *, dummy_prefix: bool | None = None) -> Any:
  """A SentencePiece model as a tokenizer of the `tokenizers` library.

  The ids of any text are the same, but where it holds the space mark U+2581
  itself or spells a special token ('<unk>' too, for unigrams), and where a BPE
  of equal scores could merge in two orders.
  `dummy_prefix` is the model's own where it is None.
  """
  from sentencepiece import sentencepiece_model_pb2 as proto  # needs protobuf

  found = proto.ModelProto.FromString(model)
  spec, kinds = found.trainer_spec, proto.ModelProto.SentencePiece
  pieces = [(piece.piece, piece.score) for piece in found.pieces]
  unknown = next(
    (i for i, p in enumerate(found.pieces) if p.type == kinds.UNKNOWN), None
  )
  if spec.model_type == proto.TrainerSpec.UNIGRAM:
    kind = library.models.Unigram(
      pieces, unk_id=unknown, byte_fallback=spec.byte_fallback
    )
  else:
    usual = {i for i, p in enumerate(found.pieces) if p.type == kinds.NORMAL}
    vocabulary = {piece: i for i, (piece, _) in enumerate(pieces)}
    kind = library.models.BPE(
      vocabulary,
      _merges(pieces, usual),
      unk_token=None if unknown is None else pieces[unknown][0],
      fuse_unk=True,
      byte_fallback=spec.byte_fallback,
    )
  made = library.Tokenizer(kind)
  prefix = found.normalizer_spec.add_dummy_prefix
  prefix = prefix if dummy_prefix is None else dummy_prefix
  steps = [library.normalizers.Replace(" ", "\u2581")]
  decoders = [
    library.decoders.Replace("\u2581", " "),
    library.decoders.ByteFallback(),
    library.decoders.Fuse(),
  ]
  if prefix:
    steps.insert(0, library.normalizers.Prepend("\u2581"))
    decoders.append(library.decoders.Strip(" ", left=1, right=0))
  made.normalizer = library.normalizers.Sequence(steps)
  made.decoder = library.decoders.Sequence(decoders)
  return made


def _merges(pieces, usual):
  """Every way to put a piece together of two, the best pieces first."""
  known = {piece: i for i, (piece, _) in enumerate(pieces)}
  ranked = sorted(usual, key=lambda i: (-pieces[i][1], i))
  merges = []
  for i in ranked:
    piece = pieces[i][0]
    cuts = [(piece[:n], piece[n:]) for n in range(1, len(piece))]
    pairs = [(a, b) for a, b in cuts if a in known and b in known]
    merges += sorted(pairs, key=lambda pair: (known[pair[0]], known[pair[1]]))
  return merges


def _open_json(folder: epath.Path, files: Files) -> _Library:
  where = folder / JSON_FILE
  whole = _json(files, JSON_FILE, folder)
  if not isinstance(whole.get("model"), dict):
    raise errors.UserError(f'{where}: "model" should be an object.')
  text = _text(files, JSON_FILE, folder)
  return _Library(_made(where, library.Tokenizer.from_str, text), where)


def _open_gpt2(folder: epath.Path, files: Files) -> _Library:
  vocabulary_file, merges_file = next(iter(files)), list(files)[1]
  where = folder / vocabulary_file
  vocabulary = _json(files, vocabulary_file, folder)
  wrong = [k for k, v in vocabulary.items() if type(v) is not int or v < 0]
  if wrong or not vocabulary:
    raise errors.UserError(
      f"{where}: token -> id is right, {wrong[:1] or 'nothing'} is there."
    )
  _check_vocabulary(vocabulary, where)
  merges = []
  text = _text(files, merges_file, folder)
  for number, line in enumerate(text.split("\n"), 1):
    if not line.strip() or (number == 1 and line.startswith("#version")):
      continue
    parts = line.rstrip("\r").split(" ")
    missing = [x for x in (*parts, "".join(parts)) if x not in vocabulary]
    if len(parts) != 2 or missing:
      raise errors.UserError(
        f"{folder / merges_file}:{number}: two tokens of {vocabulary_file}"
        f" with a space between are right, not {line[:40]!r}."
      )
    merges.append(tuple(parts))

  def build():
    made = library.Tokenizer(library.models.BPE(vocabulary, merges))
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(
      add_prefix_space=False
    )
    made.decoder = library.decoders.ByteLevel()
    if _END_OF_TEXT in vocabulary:
      token = library.AddedToken(_END_OF_TEXT, special=True, normalized=False)
      made.add_special_tokens([token])
    return made

  return _Library(_made(where, build), where)


def _open_pieces(folder: epath.Path, files: Files) -> _Pieces:
  return _Pieces(files[MODEL_FILE], folder / MODEL_FILE)


CODECS = {
  "hf": _open_json,
  "gpt2": _open_gpt2,
  "sentencepiece": _open_pieces,
}


def _made(where, build, *arguments):
  """What `build` returns; whatever the library throws names the file.

  Its panics are no Exception.
  """
  try:
    return build(*arguments)
  except (KeyboardInterrupt, SystemExit, MemoryError):
    raise
  except BaseException as error:
    raise errors.UserError(
      f"{where}: the tokenizers library cannot read it ({str(error)[:200]})."
    ) from None


def _facts(folder: epath.Path, files: Files, codec: Any) -> Facts:
  config, special, generation, model = (
    _json(files, name, folder) if name in files else {}
    for name in (CONFIG, SPECIAL, GENERATION, "config.json")
  )

  def token(name: str) -> int | None:
    for source, found in ((CONFIG, config), (SPECIAL, special)):
      text = _content(found.get(name), name, folder / source)
      if text is not None:
        if text not in codec.vocabulary:
          raise errors.UserError(
            f'{folder / source}: "{name}" is {text!r}, which is no token.'
          )
        return codec.vocabulary[text]
    return None

  def numbers(found: Mapping[str, Any], name: str) -> list[int]:
    value = found.get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    good = [v for v in values if type(v) is int and v >= 0]
    if value is not None and len(good) < len(values):
      raise errors.UserError(
        f'{folder / name}: "eos_token_id" should be a number or a list of'
        f" them, not {str(value)[:40]}."
      )
    return good

  stops = numbers(generation, GENERATION)
  usual = codec.vocabulary.get(_END_OF_TEXT)
  ends = [token("eos_token"), *stops, *numbers(model, "config.json")]
  ends += [codec.eos_id, usual]
  ends = [i for i in ends if i is not None]
  if not ends:
    raise errors.UserError(
      f'{folder}: nothing says what ends a text: an "eos_token" in {CONFIG} is'
      " right."
    )
  eot, size = ends[0], max(codec.vocabulary.values()) + 1
  stop_ids = tuple(dict.fromkeys([eot, *stops]))
  pad = token("pad_token")
  bos = token("bos_token")
  bos = codec.bos_id if bos is None else bos
  if isinstance(codec, _Pieces) and config.get("add_bos_token", True):
    start_ids = () if bos is None else (bos,)
  else:
    start_ids = codec.start_ids
  fallback = next(i for i in (bos, usual, eot) if i is not None)
  return Facts(
    vocab_size=max(size, eot + 1),
    eot_id=eot,
    pad_id=size if pad is None or pad in stop_ids else pad,
    start_ids=start_ids or (fallback,),
    stop_ids=stop_ids,
    special_ids=codec.special_ids,
    chat_template=_chat_template(config, files, folder),
  )


def _chat_template(config, files, folder):
  """The model's own template; of several the one called 'default'."""
  if TEMPLATE in files:
    return _text(files, TEMPLATE, folder)
  found = config.get("chat_template") or ""
  if isinstance(found, list):
    named = {
      entry.get("name"): entry.get("template")
      for entry in found
      if isinstance(entry, dict)
    }
    found = named.get("default", "")
  if not isinstance(found, str):
    raise errors.UserError(
      f'{folder / CONFIG}: "chat_template" should be a Jinja2 template.'
    )
  return found


def _content(value, name, where):
  """The text of a token, which may be {"content": text}."""
  if isinstance(value, dict):
    value = value.get("content")
  if value is not None and not isinstance(value, str):
    raise errors.UserError(f'{where}: "{name}" should be a token.')
  return value


def _check_vocabulary(vocabulary, where):
  ids = sorted(vocabulary.values())
  if not ids:
    raise errors.UserError(f"{where}: a tokenizer without tokens.")
  if ids[-1] >= _MOST_TOKENS:
    raise errors.UserError(f"{where}: the id {ids[-1]} is out of range.")
  twice = next((a for a, b in itertools.pairwise(ids) if a == b), None)
  if twice is not None:
    raise errors.UserError(f"{where}: two tokens have the id {twice}.")


def _write_config(folder: epath.Path, tokenizer: PretrainedTokenizer) -> None:
  names = {i: text for text, i in tokenizer.special_ids.items()}
  made = {"tokenizer_class": "PreTrainedTokenizerFast"}
  for key, i in (
    ("bos_token", (tokenizer.start_ids or (None,))[0]),
    ("eos_token", tokenizer.eot_id),
    ("pad_token", tokenizer.pad_id),
  ):
    if i in names:
      made[key] = names[i]
  (folder / CONFIG).write_text(json.dumps(made, indent=2) + "\n")


def _bytes(path: epath.Path) -> bytes:
  try:
    if path.stat().length > _MOST_BYTES:
      raise errors.UserError(f"{path}: too large for a tokenizer's file.")
    return path.read_bytes()
  except OSError as error:
    raise errors.UserError(f"{path}: cannot be read ({error}).") from None


def _text(files: Files, name: str, folder: epath.Path) -> str:
  try:
    return files[name].decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise errors.UserError(
      f"{folder / name}: not UTF-8 at byte {error.start}."
    ) from None


def _json(files: Files, name: str, folder: epath.Path) -> dict[str, Any]:
  text, where = _text(files, name, folder), folder / name
  try:
    found = json.loads(text, object_pairs_hook=_once)
    if re.search(r"\\u[dD][89a-fA-F]", text):
      json.dumps(found, ensure_ascii=False).encode("utf-8")
  except (ValueError, RecursionError) as error:
    raise errors.UserError(f"{where}: not readable JSON ({error}).") from None
  if not isinstance(found, dict):
    raise errors.UserError(f"{where}: should be a JSON object.")
  return found


def _once(pairs):
  found = dict(pairs)
  if len(found) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f"the key {twice!r} is there twice")
  return found
