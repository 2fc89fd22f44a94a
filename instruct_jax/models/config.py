"""The shape of a decoder, as data: `DecoderConfig`."""

import dataclasses

from instruct_jax.base import errors

CHOICES = {
  "norm": ("layernorm", "rmsnorm"),
  "positions": ("learned", "rotary"),
  "rotary_scaling": ("none", "linear", "llama3"),
  "mlp": ("gelu", "gelu_exact", "swiglu", "geglu"),
  "init": ("gpt2", "fan_in"),
  "dtype": ("float32", "bfloat16"),
  "remat": ("none", "dots", "full", "offload"),
}
SLIDES, FULL = "s", "f"  # the letters of window_pattern
BEYOND = 8  # times its context that a model with rotary positions reaches
SIZES = (
  "vocab_size",
  "context_length",
  "layers",
  "width",
  "heads",
  "kv_heads",
  "head_size",
  "mlp_width",
)


NO_KEYS = ("adapters",)  # fields that are no keys of a config's `model`


@dataclasses.dataclass(frozen=True)
class Adapters:
  """How the adapters count that a tree of parameters may have (`lora`)."""

  scale: float = 1.0  # of their output: alpha / rank
  dropout: float = 0.0  # of their input


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """The shape of a decoder. All but NO_KEYS are keys of a config's `model`."""

  vocab_size: int
  context_length: int  # positions that a learned table holds
  layers: int
  width: int
  heads: int
  kv_heads: int  # = heads, unless the heads are grouped
  head_size: int
  mlp_width: int
  norm: str = "layernorm"
  norm_eps: float = 1e-5
  norm_bias: bool = True
  norm_offset: float = 0.0  # is added to every scale of a norm (Gemma: 1)
  post_norms: bool = False  # norms after attention and MLP too (Gemma 2)
  positions: str = "learned"
  rotary_base: float = 10_000.0
  rotary_local_base: float = 0.0  # of layers that slide, unscaled; 0: as all
  rotary_fraction: float = 1.0  # share of a head that turns (NeoX: 0.25)
  rotary_scaling: str = "none"  # how a longer context was reached
  rotary_factor: float = 1.0  # by how much the slow rates are divided
  rotary_low: float = 1.0  # llama3: turns in the old context, fewer: slow
  rotary_high: float = 4.0  # llama3: turns in the old context, more: fast
  rotary_old_length: int = 8192  # llama3: the old context
  window: int = 0  # attention reaches this far back (Mistral); 0: everywhere
  window_pattern: str = ""  # a letter a layer, over again: s slides, f does not
  attention_cap: float = 0.0  # scores are bent below this (Gemma 2); 0: are not
  query_scalar: float = 0.0  # scores are divided by its root; 0: head_size
  mlp: str = "gelu"  # the tanh form of GPT-2; gelu_exact is erf's; geglu: gated
  attention_bias: bool = True  # of query, key and value
  output_bias: bool = True  # of the projection after them (Qwen 2: off)
  mlp_bias: bool = True
  init: str = "gpt2"  # kernels N(0, 0.02); fan_in: N(0, 1 / sqrt(inputs))
  embedding_scale: float = 1.0  # token embeddings are multiplied by this
  tied: bool = True  # the unembedding is the token embedding
  logit_cap: float = 0.0  # logits are bent below this (Gemma 2); 0: are not
  qk_norm: bool = False  # RMS norm of each query and key head (Qwen 3)
  parallel_residual: bool = False  # attention and MLP side by side (NeoX)
  dropout: float = 0.0  # of the embedding and of both residual branches
  dtype: str = "float32"  # of activations; parameters are float32
  scan: bool = False  # layers stacked in 'blocks', compiled once
  # What a gradient computes again of a layer: nothing; all but its matrix
  # products; all; or as 'dots', and the products wait in the host's memory.
  remat: str = "none"
  adapters: Adapters = Adapters()  # of `config.lora`

  def __post_init__(self):
    for name in SIZES:
      value = getattr(self, name)
      if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise errors.UserError(
          f"model.{name} must be a whole number above 0, not {value!r}."
        )
    for name, known in CHOICES.items():
      if getattr(self, name) not in known:
        raise errors.unknown(f"model.{name}", str(getattr(self, name)), known)
    for good, message in self._conditions():
      if not good:
        raise errors.UserError(f"model.{message}.")

  def _conditions(self):
    yield (
      self.heads % self.kv_heads == 0,
      f"kv_heads = {self.kv_heads} must divide model.heads = {self.heads}",
    )
    yield 0 <= self.dropout < 1, f"dropout = {self.dropout} must be in [0, 1)"
    yield self.norm_eps > 0, f"norm_eps = {self.norm_eps} must be above 0"
    yield (
      not (self.norm == "rmsnorm" and self.norm_bias),
      "norm_bias must be False: model.norm = 'rmsnorm' has no bias",
    )
    if self.positions == "rotary":
      yield (
        0 < self.rotary_fraction <= 1,
        f"rotary_fraction = {self.rotary_fraction} must be in (0, 1]",
      )
      yield (
        self.rotary_size >= 2 and self.rotary_size % 2 == 0,
        f"rotary_fraction = {self.rotary_fraction} of model.head_size ="
        f" {self.head_size} turns {self.rotary_size} numbers of a head; it"
        " must be an even number above 0",
      )
    yield (
      self.rotary_base > 0,
      f"rotary_base = {self.rotary_base} must be above 0",
    )
    if self.rotary_scaling == "llama3":
      yield (
        0 < self.rotary_low < self.rotary_high,
        f"rotary_high = {self.rotary_high} must be above model.rotary_low ="
        f" {self.rotary_low}, and both above 0",
      )
    yield (
      self.rotary_factor > 0,
      f"rotary_factor = {self.rotary_factor} must be above 0",
    )
    yield from self._of_windows()
    for name in ("attention_cap", "logit_cap", "query_scalar", "norm_offset"):
      value = getattr(self, name)
      yield value >= 0, f"{name} = {value} must not be negative"

  def _of_windows(self):
    yield self.window >= 0, f"window = {self.window} must not be negative"
    pattern, base = self.window_pattern, self.rotary_local_base
    yield (
      set(pattern) <= {SLIDES, FULL} and len(pattern) <= self.layers,
      f"window_pattern = {pattern!r} must be letters {SLIDES} (slides) and"
      f" {FULL} (does not), no more than model.layers = {self.layers}",
    )
    yield (
      not pattern or (SLIDES in pattern and self.window > 0),
      f"window_pattern = {pattern!r} says which layers slide: it needs"
      f" model.window above 0 and a layer that does ('{SLIDES}')",
    )
    yield (
      base >= 0 and not (base and not self.window),
      f"rotary_local_base = {base} is of layers that slide: it must not be"
      " negative, and needs model.window above 0",
    )

  @property
  def reach(self) -> int:
    """The most positions of a sequence.

    Rotary positions go on beyond the context that was trained, and mean less
    and less; Llama 3.1 stretched it by 8, the most of any family here.
    """
    learned = self.positions == "learned"
    return self.context_length * (1 if learned else BEYOND)

  @property
  def slides(self) -> tuple[bool, ...]:
    """Which layers attend within the window alone."""
    pattern = self.window_pattern or SLIDES
    return tuple(
      self.window > 0 and pattern[i % len(pattern)] == SLIDES
      for i in range(self.layers)
    )

  @property
  def rotary_size(self) -> int:
    """Numbers of a head that turn with the position."""
    return int(self.head_size * self.rotary_fraction)
