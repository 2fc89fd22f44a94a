"""What algorithms ask of a model: logprobs, values and scores of responses.

B batch, K completions, P prompt, R response, T = P + R, V vocabulary. Prompts
are padded on the left, responses on the right, so that every response starts
in the same column. Masks are bool and say where real tokens are. A `key`
switches dropout on.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from instruct_jax.maths import arrays
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
  return _of_response(model, params, sequences, where, key, read)


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
  return _of_response(model, params, sequences, None, None, read)


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
  return _scalars(model, params, sequences, _before(sequences), None)


def scores(
  model: heads.ScalarModel, params: dict, sequences: Sequences
) -> jax.Array:
  """Scores [B] float32, read at the last token of each response (section 3.5).

  A response without a token is scored at the last token of its prompt.
  """
  first, last = _before(sequences)
  values = _scalars(model, params, sequences, (first, last + 1), None)
  return arrays.take_at(
    values, sequences["is_response"].sum(axis=1, dtype=jnp.int32)
  )


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
  values = _scalars(model, params, rankings, (P - 1, P + K * R), key)
  lengths = rankings["is_response"].sum(axis=2, dtype=jnp.int32)
  first = jnp.arange(K, dtype=jnp.int32) * R
  last = jnp.where(lengths > 0, first + lengths, 0)
  return jnp.take_along_axis(values, last, axis=1)


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
  return _of_response(model, params, rankings, None, key, vocabulary.logprobs)


def _before(sequences):
  """From what predicts the first token of a response to what does the last."""
  first = sequences["prompt"].shape[1] - 1
  return first, first + sequences["response"].shape[1]


def _scalars(model, params, rows, at, key):
  """What a scalar model says at the tokens `at` = (start, stop) of each item.

  [B, stop - start]; what it says of padding is any number.
  """
  tokens, structure = packed.joined(rows)
  layout = packed.layout(rows)
  if layout is None:
    return _apply(model, params, tokens, structure, at, key)
  tokens, structure = layout.moved(tokens), layout.structure(structure)
  values = _apply(model, params, tokens, structure, None, key)
  return layout.of_tokens(values, *at)


def _of_response(model, params, rows, where, key, read):
  """What `read` says of the response's tokens, like `response`."""
  is_read = rows["is_response"] if where is None else where
  shape, first = is_read.shape, rows["prompt"].shape[1]
  is_read = is_read.reshape(len(is_read), -1)
  tokens, structure = packed.joined(rows)
  last, layout = tokens.shape[1], packed.layout(rows)
  predicting = _predicting(first, shape)
  if layout is None:
    at = (first - 1, last - (predicting is None))
    hidden = _apply(model, params, tokens, structure, at, key, "hidden")
    if predicting is not None:
      hidden = hidden[:, np.asarray(predicting[first:]) - at[0]]
    tokens = tokens[:, first:]
  else:
    tokens, structure = layout.moved(tokens), layout.structure(structure)
    hidden = _apply(model, params, tokens, structure, None, key, "hidden")
    hidden = layout.before(hidden, predicting)
    is_read = layout.moved(jnp.pad(is_read, [(0, 0), (first, 0)]))
  said = read(hidden, tokens, where=is_read, **_vocabulary(model, params))
  if layout is not None:
    said = jax.tree.map(lambda x: layout.of_tokens(x, first, last), said)
  return jax.tree.map(lambda x: x.reshape(shape), said)


def _predicting(prompt: int, shape: tuple[int, ...]) -> list[int] | None:
  """Which of an item's tokens [L] predicts each, if not the one before it.

  The completions of a prompt share what predicts their first token.
  """
  if len(shape) == 2:
    return None
  _, K, R = shape
  firsts = range(prompt, prompt + K * R, max(1, R))
  return [prompt - 1 if i in firsts else i - 1 for i in range(prompt + K * R)]


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
