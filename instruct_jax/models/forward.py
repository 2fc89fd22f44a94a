"""What algorithms ask of a model: logprobs, values and scores of responses.

B batch, K completions, P prompt, R response, T = P + R, V vocabulary. Prompts
are padded on the left, responses on the right, so that every response starts
in the same column. Masks are bool and say where real tokens are. A `key`
switches dropout on.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.models import attention, heads, packed, vocabulary

Sequences = dict[str, jax.Array]  # prompt, is_prompt, response, is_response


def init_params(
  model: heads.LanguageModel | heads.ScalarModel, key: jax.Array
) -> dict:
  """Fresh parameters of a model, float32."""
  token = jnp.zeros((1, 1), jnp.int32)
  structure = attention.padded(jnp.ones((1, 1), bool))
  return dict(model.init(key, token, structure)["params"])


def token_logprobs(
  model: heads.LanguageModel,
  params: dict,
  tokens: jax.Array,
  is_token: jax.Array,
  *,
  where: jax.Array | None = None,
  segments: jax.Array | None = None,
  key: jax.Array | None = None,
) -> jax.Array:
  """log π [B, T-1] float32, in nats, of tokens 1..T-1 of rows [B, T].

  Where rows are packed, `segments` [B, T] numbers their texts from 1 (0 is
  padding), and every text is computed as if it stood alone. `where` [B, T] says
  of which tokens alone they are wanted: 0 of the others.
  """
  rows = _rows(tokens, is_token, segments)
  hidden = _apply(model, params, *rows, None, key, "hidden")
  return vocabulary.logprobs(
    hidden,
    tokens[:, 1:],
    where=None if where is None else where[:, 1:],
    **_vocabulary(model, params),
  )


def token_logits(
  model: heads.LanguageModel,
  params: dict,
  tokens: jax.Array,
  is_token: jax.Array,
  *,
  segments: jax.Array | None = None,
  key: jax.Array | None = None,
) -> jax.Array:
  """Logits [B, T-1, V] float32, as `token_logprobs` reads them."""
  rows = _rows(tokens, is_token, segments)
  return _apply(model, params, *rows, None, key)


def response_logprobs(
  model: heads.LanguageModel,
  params: dict,
  sequences: Sequences,
  *,
  where: jax.Array | None = None,
  temperature: float = 1.0,
  key: jax.Array | None = None,
) -> jax.Array:
  """log π [B, R] float32 of each response token, in nats; 0 of padding.

  Pass the rollout's temperature wherever its logprobs are computed: sampling,
  reference and update (README, detail 3). `where` [B, R] says of which tokens
  alone they are wanted: 0 of the others.
  """
  read = functools.partial(vocabulary.logprobs, temperature=temperature)
  return _read_response(model, params, sequences, where, key, read)


def response_logprobs_and_entropies(
  model: heads.LanguageModel,
  params: dict,
  sequences: Sequences,
  *,
  temperature: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
  """As `response_logprobs`; and entropies [B, R], which have no gradient."""
  read = functools.partial(
    vocabulary.logprobs_and_entropies, temperature=temperature
  )
  return _read_response(model, params, sequences, None, None, read)


def response_logits(
  model: heads.LanguageModel,
  params: dict,
  sequences: Sequences,
  *,
  key: jax.Array | None = None,
) -> jax.Array:
  """Logits [B, R, V] float32, read one position before each response token.

  The largest array there is: `response_logprobs` does without it.
  """
  tokens, structure = packed.joined(sequences)
  at = _before(sequences)
  return _apply(model, params, tokens, structure, at, key)


def response_values(
  model: heads.ScalarModel, params: dict, sequences: Sequences
) -> jax.Array:
  """Values [B, R] float32 at the positions that predict each response token."""

  def apply(tokens, structure, at):
    return _apply(model, params, tokens, structure, at, None)

  return _of_response(apply, sequences, sequences["is_response"], _as_said)


def scores(
  model: heads.ScalarModel, params: dict, sequences: Sequences
) -> jax.Array:
  """Scores [B] float32, read at the last token of each response (section 3.5).

  A response without a token is scored at the last token of its prompt.
  """
  before = sequences["prompt"].shape[1] - 1
  lengths = sequences["is_response"].sum(axis=1, dtype=jnp.int32)
  last = before + lengths[:, None]
  return _scalars_at(model, params, sequences, last, None)[:, 0]


def completion_scores(
  model: heads.ScalarModel,
  params: dict,
  rankings: dict[str, jax.Array],
  *,
  key: jax.Array | None = None,
) -> jax.Array:
  """Scores [B, K] float32 of K completions, each prompt computed once.

  A row is the prompt followed by its K responses; a block mask lets each
  response see the prompt and itself only, and its positions go on from the
  prompt's, so every score equals that of the pair alone.
  """
  K, R = rankings["response"].shape[1:]
  P = rankings["prompt"].shape[1]
  lengths = rankings["is_response"].sum(axis=2, dtype=jnp.int32)
  before = P - 1 + jnp.arange(K, dtype=jnp.int32) * R
  last = jnp.where(lengths > 0, before + lengths, P - 1)
  return _scalars_at(model, params, rankings, last, key)


def completion_logprobs(
  model: heads.LanguageModel,
  params: dict,
  rankings: dict[str, jax.Array],
  *,
  key: jax.Array | None = None,
) -> jax.Array:
  """log π [B, K, R] float32 of each token of K completions, in nats; 0 of
  padding.

  Each prompt is computed once, as above.
  """
  read = vocabulary.logprobs
  return _read_response(model, params, rankings, None, key, read)


def targets_read(
  model: heads.LanguageModel,
  params: dict,
  tokens: jax.Array,
  structure: attention.Structure,
  *,
  at: jax.Array,
  targets: jax.Array,
  where: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """log π [B, A] float32 of targets [B, A], in nats, and where no token is
  likelier, bool.

  Rows of tokens [B, T] are what the structure says; the target of a row is
  predicted by its token in the slot that `at` [B, A] names. With `where` [B, A]
  bool others are 0.
  """
  hidden = _apply(model, params, tokens, structure, at, None, "hidden")
  return vocabulary.logprobs_and_likeliest(
    hidden, targets, where=where, **_vocabulary(model, params)
  )


def _before(sequences):
  """From what predicts the first token of a response to what does the last."""
  first = sequences["prompt"].shape[1] - 1
  return first, first + sequences["response"].shape[1]


def _scalars_at(model, params, rows, index, key):
  """What a scalar model says at so many tokens of each item, [I, N] as they
  are padded; the last layer computes those alone."""
  tokens, structure = packed.joined(rows)
  layouts, at = packed.layouts(rows), index
  if layouts is not None:
    of_all, _ = layouts
    tokens, structure = of_all.moved(tokens), of_all.structure(structure)
    at = of_all.at(index)
  return _apply(model, params, tokens, structure, at, key).reshape(index.shape)


def _read_response(model, params, rows, where, key, read):
  """What `read` says of the response's tokens, where it is asked for."""

  def apply(tokens, structure, at):
    return _apply(model, params, tokens, structure, at, key, "hidden")

  is_read = rows["is_response"] if where is None else where
  read = functools.partial(read, **_vocabulary(model, params))
  return _of_response(apply, rows, is_read, read)


def _of_response(apply, rows, is_read, read):
  """What `read` says of the response's tokens, like `response`.

  By what `apply` says where they are predicted.
  """
  shape, first = is_read.shape, rows["prompt"].shape[1]
  is_read = is_read.reshape(len(is_read), -1)
  tokens, structure = packed.joined(rows)
  last, layouts = tokens.shape[1], packed.layouts(rows)
  before = _predicting(first, shape)
  if layouts is None:
    at = first - 1, last - (len(shape) == 2)
    said = apply(tokens, structure, at)
    if len(shape) > 2:
      said = said[:, np.asarray(before[first:]) - at[0]]
    said = read(said, tokens[:, first:], where=is_read)
  else:
    of_all, asked = layouts
    at = of_all.predicting(asked.slots, before)
    said = apply(of_all.moved(tokens), of_all.structure(structure), at)
    is_read = asked.moved(jnp.pad(is_read, [(0, 0), (first, 0)]))
    said = read(said, asked.moved(tokens), where=is_read)
    said = jax.tree.map(lambda x: asked.of_tokens(x, first, last), said)
  return jax.tree.map(lambda x: x.reshape(shape), said)


def _as_said(said, tokens, *, where):
  """What `_of_response` reads where no vocabulary is."""
  del tokens, where
  return said


def _predicting(prompt: int, shape: tuple[int, ...]) -> list[int]:
  """Which of an item's tokens [L] predicts each: that before it, of its text.

  The completions of a prompt share what predicts their first token.
  """
  R = max(1, shape[-1])
  count = prompt + math.prod(shape[1:])
  firsts = range(prompt, count, R)
  return [prompt - 1 if i in firsts else max(0, i - 1) for i in range(count)]


def _rows(tokens, is_token, segments):
  """What predicts tokens 1..T-1 of rows [B, T]: tokens and their structure."""
  if segments is not None:
    return tokens[:, :-1], attention.packed(segments[:, :-1])
  return tokens[:, :-1], attention.padded(is_token[:, :-1])


def _vocabulary(model, params):
  """How a model reads the vocabulary."""
  c = model.config
  return {"kernel": model.kernel(params), "tied": c.tied, "cap": c.logit_cap}


def _apply(model, params, tokens, structure, at, key, method=None):
  outputs, _ = model.apply(
    {"params": params},
    tokens,
    structure,
    at=at,
    deterministic=key is None,
    rngs={} if key is None else {"dropout": key},
    method=method,
  )
  return outputs
