"""The keys of a config.json, each looked at, with errors that name it."""

from typing import Any

from instruct_jax.base import errors

Json = dict[str, Any]

# Of the tokenizer, of generation, of training, or a note of the library that
# wrote the file: none changes the network.
NEUTRAL = frozenset(
  (
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "n_ctx",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "reward_bias",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tie_word_embeddings",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_cache",
  )
)
# What must not be on, whatever the family: key -> the values that are off.
OFF = {
  "add_cross_attention": (False,),
  "cross_attention_hidden_size": (),
  "is_decoder": (False, True),  # every family here is one
  "is_encoder_decoder": (False,),
  "pruned_heads": ({},),
  "tie_encoder_decoder": (False,),
  "use_bfloat16": (False, True),
}


class Reader:
  """The keys of one config.json, each looked at, with errors that name it."""

  def __init__(self, config: Json, where: str):
    self._config, self._where, self._seen = config, where, set()

  def error(self, message: str) -> errors.UserError:
    """A UserError that begins with the file."""
    return errors.UserError(f"{self._where}: {message}")

  def get(self, key: str, kind: type, default: Any = None) -> Any:
    """The value of a key; a key without a default must be there."""
    self._seen.add(key)
    value = self._config.get(key)
    if value is None:
      if default is None:
        raise self.error(f'"{key}" is missing.')
      return default
    if kind is float and isinstance(value, int):
      value = value if isinstance(value, bool) else float(value)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
      raise self.error(
        f'"{key}" should be of type {kind.__name__}, not {shown(value)}.'
      )
    if kind in (int, float) and not 0 <= value < 2**40:
      raise self.error(f'"{key}" = {shown(value)} is out of range.')
    return value

  def nullable(self, key: str, kind: type, default: Any, *, null: Any) -> Any:
    """As `get`, and `null` where the key is there with null as its value."""
    if key in self._config and self._config[key] is None:
      self._seen.add(key)
      return null
    return self.get(key, kind, default)

  def chosen(self, key: str, known: dict[str, str], default: str) -> str:
    """Our name for a key's value; UserError for one that is not known."""
    value = self.get(key, str, default)
    if value not in known:
      raise self.error(
        f'"{key}" = {shown(value)} is not supported; known:'
        f" {', '.join(sorted(known))}."
      )
    return known[value]

  def must_be(self, key: str, *allowed: Any) -> None:
    """UserError where a key is there with a value that is not `allowed`."""
    self._seen.add(key)
    value = self._config.get(key)
    if value is not None and value not in allowed:
      raise self.error(
        f'"{key}" = {shown(value)} is not supported; it may be'
        f" {' or '.join(map(shown, allowed)) or 'left out'}."
      )

  def section(self, key: str) -> "Reader":
    """The keys of an object within the config; empty where it is left out."""
    self._seen.add(key)
    value = self._config.get(key)
    if value is not None and not isinstance(value, dict):
      raise self.error(f'"{key}" should be an object, not {shown(value)}.')
    return Reader(value or {}, f"{self._where}: {key}")

  def has(self, key: str) -> bool:
    """Whether a key is there and not null."""
    return self._config.get(key) is not None

  def finish(self, neutral: frozenset[str] = frozenset()) -> None:
    """UserError for any key that nobody looked at."""
    for key, value in self._config.items():
      if key not in self._seen and key not in neutral and value is not None:
        raise self.error(
          f'"{key}" = {shown(value)} is an option that this model does not'
          " implement."
        )


def shown(value: Any) -> str:
  """A value as an error quotes it."""
  return repr(value)[:60]
