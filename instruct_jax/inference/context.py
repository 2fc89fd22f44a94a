"""What every function of a run may know: config, world, models, token ids."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from etils import epath
from ml_collections import ConfigDict

from instruct_jax import tokenizers, worlds
from instruct_jax.base import errors, memory
from instruct_jax.data.batch import loader
from instruct_jax.inference import choice, generate
from instruct_jax.models import config as model_config
from instruct_jax.models import flops, heads, lora, sizes
from instruct_jax.parallel import hosts, sharding
from instruct_jax.tokenizers import answers, templates
from instruct_jax.worlds import interface

SCALAR_ROLES = ("reward", "value")
# Of a device's memory: what may be taken before sampling itself takes any, if
# the policy is to have a copy for it (`decoding`).
BESIDE_SAMPLING = 5 / 8


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
  """The constants of a run. Roles: policy, reference, reward, value.

  Each is equal to itself alone, so that functions can be compiled with it as a
  static argument.
  """

  config: ConfigDict
  policy: heads.LanguageModel
  scalar: heads.ScalarModel
  tokenizer: tokenizers.Tokenizer
  mesh: jax.sharding.Mesh
  folders: dict[str, epath.Path]  # what the run needs, by name

  def model(self, role: str) -> heads.LanguageModel | heads.ScalarModel:
    """The module that plays `role`."""
    return self.scalar if role in SCALAR_ROLES else self.policy

  @property
  def world(self) -> interface.World:
    """Where the run's records come from, and who can judge responses."""
    return worlds.of(self.config.data)

  def holds(self, kind: str) -> bool:
    """Whether there are records of a kind: the world's, or a stage's."""
    return kind in self.folders or self.world.holds(self.config.data, kind)

  def rows(self, kind: str, split: str, *, packed: bool = False) -> loader.Rows:
    """The token rows of a kind and split; raises as `World.records`.

    What of them is damaged on the disk is made again first. Every process calls
    it.
    """
    repair = functools.partial(
      *(self.world.repair, self.config.data, self.folders, kind, split)
    )
    hosts.once(f"repair {kind} {split}", repair)
    return loader.make(
      self.config.data,
      self.tokenizer,
      kind,
      split,
      self.folders,
      packed=packed,
      open_records=self.world.records,
      weights_of=self.world.weights,
    )

  @property
  def stop_ids(self) -> tuple[int, ...]:
    """What ends a response: first the token that training ends one with."""
    template = self.config.data.template
    first = answers.end_id(template, self.tokenizer)
    ends = templates.ends(template, self.tokenizer)
    ids = first, self.tokenizer.eot_id, *self.tokenizer.stop_ids, *ends
    return tuple(dict.fromkeys(ids))

  def sampling(self, *, temperature: float = 1.0) -> choice.Sampling:
    """Plain sampling of responses: no top-k, no top-p (README, detail 3)."""
    return choice.Sampling(
      temperature=temperature,
      max_tokens=self.config.data.response_length,
      stop_ids=self.stop_ids,
      pad_id=self.tokenizer.pad_id,
      slots=self._slots,
    )

  @property
  def _slots(self) -> int:
    """Responses that grow at a time at most, which changes none of them.

    What is best on a CPU depends on the prompts (`generate.usual_slots`).
    """
    if sharding.platform() == "cpu":
      return 0
    data = self.config.data
    tokens = data.prompt_length + data.response_length
    return generate.fitting_slots(
      self.policy.config, tokens, self.mesh, besides=self._copy_bytes
    )

  @property
  def _copy_bytes(self) -> float:
    """Of a copy of the policy's weights that rollouts may have (`decoding`).

    0 where they have none, as far as that is known without a state.
    """
    how = self.config.layout.rollout if "layout" in self.config else "train"
    c = self.policy.config
    kernels = flops.weights(c) * jnp.dtype(c.dtype).itemsize
    table = 4 * c.vocab_size * c.width
    size = (kernels + table) / self.mesh.shape["tensor"]
    most = BESIDE_SAMPLING * memory.of_device(self.mesh.local_devices[0])
    if how == "auto" and (self.mesh.shape["fsdp"] == 1 or size > most):
      return 0
    return 0 if how == "train" else size


def make(config: ConfigDict, folders: dict[str, epath.Path]) -> Context:
  """The context of a run whose needs lie in `folders`.

  Raises UserError where the dataset has no tokenizer, a size is impossible or
  the mesh does not fit the devices.
  """
  tokenizer = tokenizers.load(folders["data"])
  if config.data.get("start", tokenizer.start) != tokenizer.start:
    raise errors.UserError(
      f"data.start={config.data.start!r}: the data set {folders['data']} was"
      f" made with {tokenizer.start!r}; name another, or none to have it built"
    )
  policy, scalar = decoders(config, tokenizer.vocab_size)
  mesh = sharding.make_mesh(**config.mesh)
  for name, model in {"model": policy, "reward_model": scalar}.items():
    if model.remat == "offload" and not sharding.has_host_memory(mesh):
      raise errors.UserError(
        f"config.{name}.remat=offload: these devices have no memory of their"
        f" host's ({sharding.HOST_MEMORY}); give dots, which keeps the same in"
        " their own, or full, which keeps the least"
      )
  return Context(
    config=config,
    policy=heads.LanguageModel(policy),
    scalar=heads.ScalarModel(scalar),
    tokenizer=tokenizer,
    mesh=mesh,
    folders=folders,
  )


def with_model(ctx: Context, model: ConfigDict) -> Context:
  """A context whose policy has the shape of the section `model`.

  `ctx` itself where that is its own shape. Raises UserError as `make`.
  """
  own, other = ctx.config.model.to_dict(), model.to_dict()
  if not sizes.differences(own, other, but=(*sizes.FREE, "scan")):
    return ctx
  config = ctx.config.copy_and_resolve_references().unlock()
  config.model = model
  policy, _ = decoders(config, ctx.tokenizer.vocab_size)
  return dataclasses.replace(
    ctx, config=config.lock(), policy=heads.LanguageModel(policy)
  )


def check(config: ConfigDict) -> None:
  """UserError where a model of the config is impossible, or too small for the
  lengths of the data; reads no file."""
  decoders(config)


def decoders(
  config: ConfigDict, vocab_size: int = 1
) -> tuple[model_config.DecoderConfig, model_config.DecoderConfig]:
  """The policy's decoder and the reward model's; UserError as `check`.

  Where the config trains adapters, they know how these count.
  """
  context_length = max(
    config.data.prompt_length + config.data.response_length,
    config.data.row_length,
  )

  adapters = lora.settings(config.lora) if "lora" in config else None

  def decoder(name):
    try:
      plain = sizes.decoder_config(
        config[name], vocab_size=vocab_size, context_length=context_length
      )
    except errors.UserError as error:  # which says model.KEY of any model
      named = str(error).replace("model.", f"config.{name}.")
      raise errors.UserError(named) from None
    if adapters is None:
      return plain
    return dataclasses.replace(plain, adapters=adapters.counted)

  return decoder("model"), decoder("reward_model")
