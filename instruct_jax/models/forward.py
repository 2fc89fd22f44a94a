"""What algorithms ask of a model: logits, values and scores of responses.

B batch, K completions, P prompt, R response, T = P + R, V vocabulary. Prompts
are padded on the left, responses on the right, so that every response starts
in the same column. Masks are bool and say where real tokens are. A `key`
switches dropout on.
"""

import jax
import jax.numpy as jnp

from instruct_jax.maths import arrays
from instruct_jax.models import attention, heads

Sequences = dict[str, jax.Array]  # prompt, is_prompt, response, is_response


def init_params(
  model: heads.LanguageModel | heads.ScalarModel, key: jax.Array
) -> dict:
  """Fresh parameters of a model, float32."""
  token = jnp.zeros((1, 1), jnp.int32)
  structure = attention.padded(jnp.ones((1, 1), bool))
  return dict(model.init(key, token, structure)["params"])


def token_logits(
  model: heads.LanguageModel,
  params: dict,
  tokens: jax.Array,
  is_token: jax.Array,
  *,
  segments: jax.Array | None = None,
  key: jax.Array | None = None,
) -> jax.Array:
  """Logits [B, T-1, V] float32 for tokens 1..T-1 of rows [B, T].

  Where rows are packed, `segments` [B, T] numbers their texts from 1 (0 is
  padding), and every text is computed as if it stood alone.
  """
  inputs, is_input = tokens[:, :-1], is_token[:, :-1]
  if segments is None:
    structure = attention.padded(is_input)
  else:
    structure = attention.packed(segments[:, :-1])
  return _apply(model, params, inputs, structure, None, key)


def response_logits(
  model: heads.LanguageModel,
  params: dict,
  sequences: Sequences,
  *,
  key: jax.Array | None = None,
) -> jax.Array:
  """Logits [B, R, V] float32, read one position before each response token."""
  tokens, structure = _joined(sequences)
  at = (sequences["prompt"].shape[1] - 1, tokens.shape[1] - 1)
  return _apply(model, params, tokens, structure, at, key)


def response_values(
  model: heads.ScalarModel, params: dict, sequences: Sequences
) -> jax.Array:
  """Values [B, R] float32 at the positions that predict each response token."""
  tokens, structure = _joined(sequences)
  at = (sequences["prompt"].shape[1] - 1, tokens.shape[1] - 1)
  return _apply(model, params, tokens, structure, at, None)


def scores(
  model: heads.ScalarModel, params: dict, sequences: Sequences
) -> jax.Array:
  """Scores [B] float32, read at the last token of each response (section 3.5).

  A response without a token is scored at the last token of its prompt.
  """
  tokens, structure = _joined(sequences)
  at = (sequences["prompt"].shape[1] - 1, tokens.shape[1])
  values = _apply(model, params, tokens, structure, at, None)
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
  values = _side_by_side(model, params, rankings, key)
  K, R = rankings["response"].shape[1:]
  lengths = rankings["is_response"].sum(axis=2, dtype=jnp.int32)
  first = jnp.arange(K, dtype=jnp.int32) * R
  last = jnp.where(lengths > 0, first + lengths, 0)
  return jnp.take_along_axis(values, last, axis=1)


def completion_logits(
  model: heads.LanguageModel,
  params: dict,
  rankings: dict[str, jax.Array],
  *,
  key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Logits of K completions, float32, each prompt computed once as above.

  Those [B, 1, V] of the first token, which the completions of a prompt share,
  and those [B, K, R, V] after each token of a completion.
  """
  logits = _side_by_side(model, params, rankings, key)
  shape = (*rankings["response"].shape, logits.shape[-1])
  return logits[:, :1], logits[:, 1:].reshape(shape)


def _side_by_side(model, params, rankings, key):
  """[B, 1 + K * R, ...]: at the prompt's last token, then at all responses'."""
  B, K, R = rankings["response"].shape
  P = rankings["prompt"].shape[1]
  tokens = jnp.concatenate(
    [rankings["prompt"], rankings["response"].reshape(B, K * R)], axis=1
  )
  structure = attention.shared_prompt(
    rankings["is_prompt"], rankings["is_response"]
  )
  at = (P - 1, P + K * R)
  return _apply(model, params, tokens, structure, at, key)


def _joined(sequences: Sequences) -> tuple[jax.Array, attention.Structure]:
  """Tokens [B, T] of prompts with their responses, and their structure."""
  tokens = jnp.concatenate([sequences["prompt"], sequences["response"]], axis=1)
  is_token = jnp.concatenate(
    [sequences["is_prompt"], sequences["is_response"]], axis=1
  )
  return tokens, attention.padded(is_token)


def _apply(model, params, tokens, structure, at, key):
  outputs, _ = model.apply(
    {"params": params},
    tokens,
    structure,
    at=at,
    deterministic=key is None,
    rngs={} if key is None else {"dropout": key},
  )
  return outputs
