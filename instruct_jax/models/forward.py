"""What algorithms ask of a model: logprobs, values and scores of responses.

B batch, K completions, P prompt, R response, T = P + R, V vocabulary. Prompts
are padded on the left, responses on the right, so that every response starts
in the same column. Masks are bool and say where real tokens are. A `key`
switches dropout on.
"""

import jax
import jax.numpy as jnp

from instruct_jax.maths import arrays
from instruct_jax.models import attention, heads, vocabulary

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
  segments: jax.Array | None = None,
  key: jax.Array | None = None,
) -> jax.Array:
  """log π [B, T-1] float32, in nats, of tokens 1..T-1 of rows [B, T].

  Where rows are packed, `segments` [B, T] numbers their texts from 1 (0 is
  padding), and every text is computed as if it stood alone.
  """
  rows = _rows(tokens, is_token, segments)
  hidden = _apply(model, params, *rows, None, key, "hidden")
  return _logprobs(model, params, hidden, tokens[:, 1:])


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
  temperature: float = 1.0,
  key: jax.Array | None = None,
) -> jax.Array:
  """log π [B, R] float32 of each response token, in nats.

  Pass the rollout's temperature wherever its logprobs are computed: sampling,
  reference and update (README, detail 3).
  """
  hidden = _before_response(model, params, sequences, key, "hidden")
  tokens = sequences["response"]
  return _logprobs(model, params, hidden, tokens, temperature)


def response_logprobs_and_entropies(
  model: heads.LanguageModel,
  params: dict,
  sequences: Sequences,
  *,
  temperature: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
  """As `response_logprobs`; and entropies [B, R], which have no gradient."""
  hidden = _before_response(model, params, sequences, None, "hidden")
  c = model.config
  return vocabulary.logprobs_and_entropies(
    hidden,
    sequences["response"],
    kernel=model.kernel(params),
    tied=c.tied,
    cap=c.logit_cap,
    temperature=temperature,
  )


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
  return _before_response(model, params, sequences, key)


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


def completion_logprobs(
  model: heads.LanguageModel,
  params: dict,
  rankings: dict[str, jax.Array],
  *,
  key: jax.Array | None = None,
) -> jax.Array:
  """log π [B, K, R] float32 of each token of K completions, in nats.

  Each prompt is computed once, as above.
  """
  hidden = _side_by_side(model, params, rankings, key, "hidden")
  B, K, R = rankings["response"].shape
  shape = (B, K, R, hidden.shape[-1])
  # The completions of a prompt share what predicts their first token.
  first = jnp.broadcast_to(hidden[:, None, :1], (*shape[:2], 1, shape[3]))
  after = hidden[:, 1:].reshape(shape)[:, :, :-1]
  before = jnp.concatenate([first, after], axis=2).reshape(B, K * R, -1)
  tokens = rankings["response"].reshape(B, K * R)
  return _logprobs(model, params, before, tokens).reshape(shape[:3])


def _side_by_side(model, params, rankings, key, method=None):
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
  return _apply(model, params, tokens, structure, at, key, method)


def _before_response(model, params, sequences, key, method=None):
  """[B, R, ...]: one position before each response token."""
  tokens, structure = _joined(sequences)
  at = (sequences["prompt"].shape[1] - 1, tokens.shape[1] - 1)
  return _apply(model, params, tokens, structure, at, key, method)


def _rows(tokens, is_token, segments):
  """What predicts tokens 1..T-1 of rows [B, T]: tokens and their structure."""
  if segments is not None:
    return tokens[:, :-1], attention.packed(segments[:, :-1])
  return tokens[:, :-1], attention.padded(is_token[:, :-1])


def _logprobs(model, params, hidden, tokens, temperature=1.0):
  c = model.config
  return vocabulary.logprobs(
    hidden,
    tokens,
    kernel=model.kernel(params),
    tied=c.tied,
    cap=c.logit_cap,
    temperature=temperature,
  )


def _joined(sequences: Sequences) -> tuple[jax.Array, attention.Structure]:
  """Tokens [B, T] of prompts with their responses, and their structure."""
  tokens = jnp.concatenate([sequences["prompt"], sequences["response"]], axis=1)
  is_token = jnp.concatenate(
    [sequences["is_prompt"], sequences["is_response"]], axis=1
  )
  return tokens, attention.padded(is_token)


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
