"""Slots in which responses grow: one that has ended takes the next prompt.

Axes: N prompts, P their width (left-padded), R the longest response, B slots,
S = P + R columns of a slot, m slots that are filled at a time, V vocabulary.

All slots write the same column at a time, and the columns go round: what is
written at time t lies in column t mod S. A text's tokens lie one behind the
other and end in the newest column, so the key that is `age` columns old stands
`age` positions before the newest token, and is of the text if that is not below
0. A prompt that comes into a slot is placed to end where the others are. So no
row needs an address of its own, no mask is kept, and nothing of what lay in a
slot before can be seen.

Everything happens on the devices, within one program, and every device fills
its own slots from the one queue: no host decides anything, so processes cannot
disagree.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from instruct_jax.inference import choice
from instruct_jax.parallel import sharding


@dataclasses.dataclass(frozen=True)
class Network:
  """What tokens are chosen by."""

  # () -> the cache of B empty slots
  empty: Callable[[], Any]
  # (prompt, is_prompt [m, P]) -> (logits [m, V], what it has read)
  read: Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]]
  # (cache, what was read, time, put) -> the cache that holds it, where put
  # (x [B, ...], new [m, ...]) does so with an array: it ends before the time
  placed: Callable[..., Any]
  # (newest tokens [B], their positions [B], time, cache) -> (logits, cache)
  step: Callable[..., tuple[jax.Array, Any]]


@flax.struct.dataclass
class Queue:
  """What is asked."""

  prompt: jax.Array  # [N, P] int32
  is_prompt: jax.Array  # [N, P] bool
  episodes: jax.Array  # [N] int32, whose draws choose (`choice.draws`)
  limits: jax.Array  # [N] int32, tokens at most; of 0 nothing is asked

  @property
  def order(self) -> jax.Array:
    """[N] int32: the longest prompts first, so that like ones are read
    together; what is not asked last."""
    length = self.is_prompt.sum(axis=1, dtype=jnp.int32)
    length = jnp.where(self.limits > 0, length, -1)
    return jnp.argsort(-length, stable=True).astype(jnp.int32)


@flax.struct.dataclass
class Slots:
  """Who is answered in each slot, and how far that is."""

  time: jax.Array  # [] int32, columns that every slot has written
  taken: jax.Array  # [] int32, prompts that have come into a slot
  owner: jax.Array  # [B] int32, the prompt, N of none
  limit: jax.Array  # [B] int32, the owner's
  length: jax.Array  # [B] int32, tokens of its prompt
  start: jax.Array  # [B] int32, the time of its first token
  count: jax.Array  # [B] int32, tokens chosen
  ended: jax.Array  # [B] bool, the newest token is a stop
  tokens: jax.Array  # [B, S] int32, each in its column
  cache: Any
  said: jax.Array  # [N, R] int32: what has been said, by prompt
  said_count: jax.Array  # [N] int32
  said_ended: jax.Array  # [N] bool

  @property
  def is_running(self) -> jax.Array:
    """[B] bool: there is more to choose."""
    return ~self.ended & (self.count < self.limit)


@dataclasses.dataclass(frozen=True)
class Shape:
  """How many slots there are, and how they lie on the devices."""

  slots: int  # B
  fill: int  # m
  max_tokens: int  # R
  mesh: jax.sharding.Mesh | None = None

  @property
  def groups(self) -> int:
    """Devices with rows of their own: each fills its own slots."""
    if self.mesh is None:
      return 1
    return self.mesh.shape["data"] * self.mesh.shape["fsdp"]

  @property
  def enough(self) -> int:
    """Free slots that are worth a filling. Devices don't end in step, so half
    of what they take together is enough where there are several."""
    return self.fill if self.groups == 1 else -(-self.fill // 2)

  def rows(self, tree: Any) -> Any:
    """The tree, its first axis over the devices that have rows."""
    return self._laid(tree, *sharding.BATCH)

  def cache(self, tree: Any) -> Any:
    """A cache [B, G, S, E], or stacked [N, B, G, S, E], its rows over the
    devices that have rows and, where these divide them, heads over tensor."""
    if self.mesh is None:
      return tree
    mesh = self.mesh

    def one(x):
      heads = None if x.shape[-3] % mesh.shape["tensor"] else "tensor"
      stacked = (None,) * (x.ndim - 4)
      layout = PartitionSpec(*stacked, *sharding.BATCH, heads, None, None)
      place = NamedSharding(mesh, layout)
      return jax.lax.with_sharding_constraint(x, place)

    return jax.tree.map(one, tree)

  def whole(self, tree: Any) -> Any:
    """The tree, everywhere whole."""
    return self._laid(tree)

  def _laid(self, tree, *first):
    mesh, rest = self.mesh, PartitionSpec.UNCONSTRAINED
    if mesh is None:
      return tree

    def one(x):
      others = (rest if first else None,) * (x.ndim - len(first))
      layout = NamedSharding(mesh, PartitionSpec(*first, *others))
      return jax.lax.with_sharding_constraint(x, layout)

    return jax.tree.map(one, tree)


def shape_of(
  prompts: int,
  slots: int,
  max_tokens: int,
  mesh: jax.sharding.Mesh | None = None,
) -> Shape:
  """At most so many slots (0: as many as prompts) for N prompts, on a mesh.

  A quarter of them is filled at a time: fewer would be read too slowly, more
  would wait too long.
  """
  one = Shape(1, 1, max_tokens, mesh).groups
  most = min(slots, prompts) if slots else prompts
  each = -(-max(1, most) // one)  # slots of a device
  fill = max(1, each // FILLINGS)
  return Shape(each * one, fill * one, max_tokens, mesh)


FILLINGS = 4


def begin(network: Network, queue: Queue, shape: Shape) -> Slots:
  """Slots of nobody."""
  (N, P), B, R = queue.prompt.shape, shape.slots, shape.max_tokens
  zeros = jnp.zeros(B, jnp.int32)
  none = jnp.zeros(B, bool)
  return Slots(
    time=jnp.int32(0),
    taken=jnp.int32(0),
    owner=zeros + N,
    limit=zeros,
    length=zeros + 1,
    start=zeros,
    count=zeros,
    ended=none,
    tokens=jnp.zeros((B, P + R), jnp.int32),
    cache=network.empty(),
    said=jnp.zeros((N, R), jnp.int32),
    said_count=jnp.zeros(N, jnp.int32),
    said_ended=jnp.zeros(N, bool),
  )


def advance(
  network: Network,
  queue: Queue,
  slots: Slots,
  shape: Shape,
  sampling: choice.Sampling,
  key: jax.Array,
  *,
  temperature: jax.Array,
  steps: jax.Array | int | None = None,
) -> Slots:
  """Answers until everything is said; at most so many steps of a token each.

  A prompt that comes into a slot gets its first token by that, and it comes
  even without a step. What is said by then is in `said`.
  """
  order, asked = queue.order, _asked(queue)
  choose = chooser(
    choice.all_draws(key, queue.episodes, shape.max_tokens),
    sampling,
    temperature=temperature,
  )
  until = None if steps is None else slots.time + steps

  def is_time(slots):
    return True if until is None else slots.time < until

  def is_filling(slots):
    """Whether there are slots, and prompts for them, enough to stop for."""
    free = _of_groups(~slots.is_running, shape).sum(axis=1, dtype=jnp.int32)
    free = jnp.minimum(free, shape.fill // shape.groups).sum(dtype=jnp.int32)
    waiting = asked - slots.taken
    return (waiting > 0) & (free >= jnp.minimum(waiting, shape.enough))

  def decode(slots):
    return jax.lax.while_loop(
      lambda slots: (
        slots.is_running.any() & is_time(slots) & ~is_filling(slots)
      ),
      functools.partial(stepped, network, choose),
      slots,
    )

  def fill(slots):
    slots = _noted(slots, shape)
    return filled(network, choose, queue, slots, shape, order=order)

  slots = jax.lax.while_loop(
    lambda slots: is_filling(slots) | (slots.is_running.any() & is_time(slots)),
    lambda slots: decode(fill(slots)),
    slots,
  )
  return _noted(slots, shape)


# (logits [B, V], owners [B], tokens that they have) -> (the next, if stops)
Choose = Callable[..., tuple[jax.Array, jax.Array]]


def chooser(
  uniforms: jax.Array,
  sampling: choice.Sampling,
  *,
  temperature: jax.Array | float,
) -> Choose:
  """Chooses tokens by the draws [N, R] of the prompts."""
  return functools.partial(
    _chosen, uniforms, sampling=sampling, temperature=temperature
  )


def _asked(queue):
  return (queue.limits > 0).sum(dtype=jnp.int32)


def _chosen(uniforms, logits, owner, count, *, sampling, temperature):
  """The owners' tokens [B], of which `count` are there, and which are stops."""
  draws = uniforms[owner, count]
  tokens = choice.choose(logits, draws, sampling, temperature=temperature)
  return tokens, choice.is_stop(tokens, sampling.stop_ids)


def stepped(network: Network, choose: Choose, slots: Slots) -> Slots:
  """A token more in every slot that has not ended."""
  S = slots.tokens.shape[1]
  column, after = slots.time % S, (slots.time + 1) % S
  newest = jax.lax.dynamic_index_in_dim(slots.tokens, column, 1, False)
  positions = slots.length + slots.count - 1
  logits, cache = network.step(newest, positions, slots.time, slots.cache)
  tokens, is_stop = choose(logits, slots.owner, slots.count)
  running = slots.is_running
  # What has ended stays, until it is noted.
  old = jax.lax.dynamic_index_in_dim(slots.tokens, after, 1, False)
  tokens = jnp.where(running, tokens, old)
  return dataclasses.replace(
    slots,
    time=slots.time + 1,
    count=slots.count + running,
    ended=slots.ended | (running & is_stop),
    tokens=jax.lax.dynamic_update_index_in_dim(slots.tokens, tokens, after, 1),
    cache=cache,
  )


def filled(
  network: Network,
  choose: Choose,
  queue: Queue,
  slots: Slots,
  shape: Shape,
  *,
  order: jax.Array,
) -> Slots:
  """Every device's first free slots with the next prompts in an order [N]."""
  asked = _asked(queue)
  N, S = len(queue.limits), slots.tokens.shape[1]
  free = _of_groups(~slots.is_running, shape)  # [D, b]
  width = shape.fill // shape.groups
  chosen = jnp.argsort(~free, axis=1, stable=True)[:, :width]  # [D, m / D]
  is_free = jnp.take_along_axis(free, chosen, axis=1)
  # The devices take turns, so that each has as many.
  rank = jnp.cumsum(is_free.T.reshape(-1), dtype=jnp.int32)
  rank = slots.taken + rank.reshape(width, -1).T - 1
  is_new = is_free & (rank < asked)
  owner = order[jnp.where(is_new, rank, 0)]
  mine = jax.tree.map(lambda x: shape.rows(x[owner.reshape(-1)]), queue)
  is_prompt = mine.is_prompt & is_new.reshape(-1, 1)
  logits, read = network.read(mine.prompt, is_prompt)
  first, is_stop = choose(logits, owner.reshape(-1), 0)
  put = functools.partial(_put, chosen, is_new, shape)
  length = is_prompt.sum(axis=1, dtype=jnp.int32)
  is_column = jnp.arange(S) == slots.time % S
  return dataclasses.replace(
    slots,
    taken=slots.taken + is_new.sum(dtype=jnp.int32),
    owner=put(slots.owner, jnp.where(is_new, owner, N).reshape(-1)),
    limit=put(slots.limit, mine.limits),
    length=put(slots.length, length),
    start=put(slots.start, jnp.full_like(length, slots.time)),
    count=put(slots.count, jnp.ones_like(length)),
    ended=put(slots.ended, is_stop),
    tokens=put(slots.tokens, jnp.where(is_column, first[:, None], 0)),
    cache=network.placed(slots.cache, read, slots.time, put),
  )


def _noted(slots: Slots, shape) -> Slots:
  """What the slots hold is written down."""
  S, R = slots.tokens.shape[1], slots.said.shape[1]
  columns = (slots.start[:, None] + jnp.arange(R)) % S
  tokens = jnp.take_along_axis(slots.tokens, columns, axis=1)
  owner, tokens, count, ended = shape.whole(
    (slots.owner, tokens, slots.count, slots.ended)
  )

  def noted(said, new):
    return shape.whole(said.at[owner].set(new, mode="drop"))

  return dataclasses.replace(
    slots,
    said=noted(slots.said, tokens),
    said_count=noted(slots.said_count, count),
    said_ended=noted(slots.said_ended, ended),
  )


def _of_groups(x, shape):
  """[B, ...] -> [D, b, ...]: each device's own."""
  return x.reshape(shape.groups, -1, *x.shape[1:])


def _put(chosen, is_new, shape, x, new):
  """x [B, ...] with new [m, ...] in the slots `chosen` [D, m / D], if new.

  What is not new is written as it was: XLA mixes up the rows of several
  devices where indices past the end are to be dropped.
  """

  def of_device(x, i, is_new, new):
    is_new = is_new.reshape(-1, *(1,) * (x.ndim - 1))
    return x.at[i].set(jnp.where(is_new, new, x[i]), unique_indices=True)

  there = jax.vmap(of_device)(
    _of_groups(x, shape), chosen, is_new, _of_groups(new, shape)
  )
  return shape.rows(there.reshape(x.shape))
