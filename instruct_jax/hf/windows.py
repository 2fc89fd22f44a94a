"""Which layers slide in a config.json, and how far they see."""

from collections.abc import Callable

from instruct_jax.hf import keys
from instruct_jax.models import config as model_config

_KINDS = {
  "sliding_attention": model_config.SLIDES,
  "full_attention": model_config.FULL,
}
_MOST = 1000  # layers


def read(
  reader: keys.Reader, window: int, layers: int, slides: Callable[[int], bool]
) -> keys.Json:
  """The `window` and `window_pattern` of a DecoderConfig of `layers`.

  "layer_types" says which layers slide; where it is left out, `slides` of
  their number does. Raises UserError where one does and there is no `window`
  (0).
  """
  if layers > _MOST:
    raise reader.error(f'"num_hidden_layers" = {layers} is out of range.')
  if reader.has("layer_types"):
    letters = "".join(_letter(reader, x) for x in _kinds(reader, layers))
  else:
    kinds = model_config.FULL, model_config.SLIDES
    letters = "".join(kinds[slides(i)] for i in range(layers))
  if model_config.SLIDES not in letters:
    return {"window": 0}
  if not window:
    raise reader.error('layers slide, but "sliding_window" is missing.')
  return {"window": window, "window_pattern": _shortest(letters)}


def write(model: model_config.DecoderConfig) -> keys.Json:
  """The kind of every layer, as "layer_types" has it."""
  names = {letter: name for name, letter in _KINDS.items()}
  letters = (
    model_config.SLIDES if x else model_config.FULL for x in model.slides
  )
  return {"layer_types": [names[letter] for letter in letters]}


def _kinds(reader, layers):
  kinds = reader.get("layer_types", list)
  if len(kinds) != layers:
    raise reader.error(
      f'"layer_types" names {len(kinds)} layers, "num_hidden_layers" is'
      f" {layers}."
    )
  return kinds


def _letter(reader, kind):
  if not isinstance(kind, str) or kind not in _KINDS:
    raise reader.error(
      f'"layer_types": {keys.shown(kind)} is not supported; known:'
      f" {', '.join(_KINDS)}."
    )
  return _KINDS[kind]


def _shortest(letters):
  """The letters that give `letters` over and over; '' where all slide."""
  for n in range(1, len(letters) + 1):
    if (letters[:n] * len(letters))[: len(letters)] == letters:
      break
  return "" if letters[:n] == model_config.SLIDES else letters[:n]
