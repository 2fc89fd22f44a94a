"""What the files beside a tokenizer say of its special tokens.

In this order: tokenizer_config.json, special_tokens_map.json,
generation_config.json, config.json, the tokenizer's own file.
"""

import dataclasses
from typing import Any

from etils import epath

from instruct_jax.base import errors
from instruct_jax.tokenizers import files, json_codec

# Builds its tokenizer anew, without what tokenizer.json puts around a text.
_DEAF = ("GPTNeoXTokenizer", "GPTNeoXTokenizerFast")


@dataclasses.dataclass(frozen=True)
class Facts:
  """The special tokens of a tokenizer, by id."""

  vocab_size: int
  eot_id: int
  pad_id: int  # `vocab_size` where the model has none of its own
  reference_ids: tuple[int, ...]  # what transformers puts in front of a text
  stop_ids: tuple[int, ...]
  special_names: dict[str, str]  # 'bos_token' -> '<s>'
  chat_template: str
  named: tuple[str, ...]  # tokens that the files call special


class _Sources:
  """The JSON files beside a tokenizer, and what they call things."""

  def __init__(self, folder: epath.Path, contents: files.Files, codec: Any):
    self._folder, self._codec, self._contents = folder, codec, contents
    self._names = {i: name for name, i in codec.vocabulary.items()}

  def object(self, name: str) -> dict[str, Any]:
    if name not in self._contents:
      return {}
    return files.json_object(self._contents, name, self._folder)

  def flag(self, name: str, usual: bool) -> bool:
    """A true or false of the tokenizer's config."""
    value = self.object(files.CONFIG).get(name)
    if value is not None and type(value) is not bool:
      raise errors.UserError(
        f'{self._folder / files.CONFIG}: "{name}" should be true or false, not'
        f" {str(value)[:40]}."
      )
    return usual if value is None else value

  def token(self, name: str) -> int | None:
    """The id of the token that a file calls 'eos_token', say."""
    for source in (files.CONFIG, files.SPECIAL):
      text, where = self.object(source).get(name), self._folder / source
      if isinstance(text, dict):
        text = text.get("content", text)
      if text is None:
        continue
      if not isinstance(text, str):
        raise errors.UserError(f'{where}: "{name}" should be a token.')
      if text not in self._codec.vocabulary:
        raise errors.UserError(
          f'{where}: "{name}" is {text[:40]!r}, which the tokenizer does not'
          " have."
        )
      return self._codec.vocabulary[text]
    return None

  def ends(self, source: str) -> list[int]:
    """The ids of "eos_token_id", which is one or a list."""
    value = self.object(source).get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    if value is None:
      return []
    for i in values:
      if type(i) is not int or i not in self._names:
        raise errors.UserError(
          f'{self._folder / source}: "eos_token_id" should be the id of a token'
          f" or a list of such, not {str(i)[:40]}."
        )
    return values

  def name(self, i: int) -> str:
    return self._names[i]


def read(folder: epath.Path, contents: files.Files, codec: Any) -> Facts:
  """What is known of a tokenizer; UserError naming the file that is wrong."""
  sources = _Sources(folder, contents, codec)
  stops = sources.ends(files.GENERATION)
  usual = codec.vocabulary.get(json_codec.END_OF_TEXT)
  ends = [sources.token("eos_token"), *stops]
  ends += sources.ends(files.MODEL_CONFIG)
  ends = [i for i in (*ends, codec.eos_id, usual) if i is not None]
  if not ends:
    raise errors.UserError(
      f'{folder}: nothing says what ends a text; "eos_token" in {files.CONFIG}'
      " should."
    )
  eot, size = ends[0], max(codec.vocabulary.values()) + 1
  stop_ids = tuple(dict.fromkeys([eot, *stops]))
  bos = sources.token("bos_token")
  bos = codec.bos_id if bos is None else bos
  reference_ids = _in_front(sources, codec, bos)
  pad = sources.token("pad_token")
  used = {i for i in (*stop_ids, *reference_ids, bos) if i is not None}
  named = {*used, *(() if pad is None else (pad,))} - {codec.unknown_id}
  return Facts(
    vocab_size=size,
    eot_id=eot,
    pad_id=size if pad is None or pad in {*used, codec.unknown_id} else pad,
    reference_ids=reference_ids,
    stop_ids=stop_ids,
    special_names={
      name: sources.name(i)
      for name, i in (
        ("bos_token", bos),
        ("eos_token", eot),
        ("pad_token", pad),
        ("unk_token", codec.unknown_id),
      )
      if i is not None
    },
    chat_template=_chat_template(sources, contents, folder),
    named=tuple(sources.name(i) for i in sorted(named)),
  )


def _in_front(sources, codec, bos):
  """What the reference puts in front of a text.

  A tokenizer.json says it, but to classes that do not listen; of other files
  the flag beside them decides. Where that is left out, the class does: as its
  documentation says, a Llama's adds its BOS and GPT-2's does not.
  """
  if codec.start_ids is not None:
    name = sources.object(files.CONFIG).get("tokenizer_class")
    return () if name in _DEAF else codec.start_ids
  adds = sources.flag("add_bos_token", codec.adds_bos)
  return (bos,) if adds and bos is not None else ()


def _chat_template(sources, contents, folder):
  """The model's own template; of several the one called 'default'."""
  if files.TEMPLATE in contents:
    return files.text(contents, files.TEMPLATE, folder)
  value = sources.object(files.CONFIG).get("chat_template")
  if isinstance(value, list) and all(isinstance(x, dict) for x in value):
    named = {x.get("name"): x.get("template") for x in value}
    value = named.get("default", "")
  if value is not None and not isinstance(value, str):
    raise errors.UserError(
      f'{folder / files.CONFIG}: "chat_template" should be a Jinja2 template,'
      ' or a list of {"name", "template"}.'
    )
  return value or ""
