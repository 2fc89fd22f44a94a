"""What reads the decoder: a language model, and a scalar per token.

Both keep the trunk under 'decoder', so that a reward model starts from a
policy's tree as it is. RULES places their parameters on a mesh.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from instruct_jax.models import attention, decoder, turned
from instruct_jax.models import config as model_config

# Suffix of a parameter's path -> its layout, for `sharding.place`: exactly one
# line matches an array. Stacked layers get a leading None there.
RULES = (
  (r"(token|position)_embedding/embedding", P(None, ("fsdp", "tensor"))),
  (r"(query|key|value|up|gate)/kernel", P("fsdp", "tensor")),
  (r"(query|key|value|up|gate)/bias", P("tensor")),
  (r"(output|down)/kernel", P("tensor", "fsdp")),
  (r"(output|down)/bias", P(None)),
  (r"(query|key|value|up|gate)/lora_a", P("fsdp", None)),
  (r"(query|key|value|up|gate)/lora_b", P(None, "tensor")),
  (r"(output|down)/lora_a", P("tensor", None)),
  (r"(output|down)/lora_b", P(None, "fsdp")),
  (r"(attention|mlp|final|query|key)_norm/(scale|bias)", P(None)),
  (r"(attention|mlp)_post_norm/(scale|bias)", P(None)),
  (r"unembedding/kernel", P(("fsdp", "tensor"), None)),
  (r"head/kernel", P("fsdp", None)),
  (r"head/bias", P(None)),
)


class LanguageModel(nn.Module):
  """Logits of the next token."""

  config: model_config.DecoderConfig

  def setup(self) -> None:
    c = self.config
    self.decoder = decoder.Decoder(c)
    if not c.tied:
      normal = nn.initializers.normal(0.02)
      self.unembedding = _Kernel((c.width, c.vocab_size), normal)

  def __call__(
    self,
    tokens: jax.Array,
    structure: attention.Structure,
    cache: attention.Cache | None = None,
    *,
    at: attention.At | None = None,
    deterministic: bool = True,
  ) -> tuple[jax.Array, attention.Cache | None]:
    """Logits [B, T', V] float32 and the cache; see `Decoder`.

    `at` = (start, stop) asks for these T' time positions only, as a slice
    does: (P - 1, -1) for the R tokens after a prompt of P. Logits are for
    sampling: a loss reads the vocabulary by `vocabulary`.
    """
    hidden, cache = self.hidden(
      tokens, structure, cache, at=at, deterministic=deterministic
    )
    return self.logits(hidden), cache

  def hidden(
    self,
    tokens: jax.Array,
    structure: attention.Structure,
    cache: attention.Cache | None = None,
    *,
    at: attention.At | None = None,
    deterministic: bool = True,
  ) -> tuple[jax.Array, attention.Cache | None]:
    """As `__call__`, before the vocabulary is read: [B, T', D]."""
    return self.decoder(
      tokens, structure, cache, at=at, deterministic=deterministic
    )

  def logits(self, hidden: jax.Array) -> jax.Array:
    """Logits [..., V] float32 of what `hidden` gives."""
    if self.config.tied:
      return self.decoder.unembed(hidden)
    kernel, is_turned = self.unembedding()
    cap = self.config.logit_cap
    return decoder.logits(hidden, kernel, is_turned=is_turned, cap=cap)

  def kernel(self, params: dict) -> jax.Array:
    """What reads the vocabulary, [D, V], or [V, D] of a tied model."""
    if self.config.tied:
      return params["decoder"]["token_embedding"]["embedding"]
    return params["unembedding"]["kernel"]


class ScalarModel(nn.Module):
  """One number a token: the score of a reward model, or a value."""

  config: model_config.DecoderConfig

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    structure: attention.Structure,
    cache: attention.Cache | None = None,
    *,
    at: attention.At | None = None,
    deterministic: bool = True,
  ) -> tuple[jax.Array, attention.Cache | None]:
    """Scalars [B, T'] float32 and the cache; as `LanguageModel` otherwise."""
    c = self.config
    hidden, cache = decoder.Decoder(c, name="decoder")(
      tokens,
      structure,
      cache,
      at=at,
      deterministic=deterministic,
    )
    # lm-human-preferences: N(0, 1 / sqrt(D + 1)), bias 0 (README, detail 11).
    init = nn.initializers.normal((c.width + 1) ** -0.5)
    head = nn.Dense(1, kernel_init=init, name="head")
    return head(hidden.astype(jnp.float32))[..., 0], cache


class _Kernel(nn.Module):
  """A bare matrix under a name of its own, and whether it is turned."""

  shape: tuple[int, int]
  initializer: nn.initializers.Initializer

  @nn.compact
  def __call__(self):
    if self.has_variable("params", turned.TURNED):
      return self.get_variable("params", turned.TURNED), True
    return self.param("kernel", self.initializer, self.shape), False
