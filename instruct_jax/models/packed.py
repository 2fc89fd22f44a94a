"""Prompts with their responses in rows that they share, without padding.

Elsewhere episodes and rankings are arrays [B, ...] with padding and masks, and
what a model says of them has the same shape. In between their tokens are moved
to rows of slots: `mapped` and `training.gradient` give a loss the items of some
rows together with where each token goes, and `forward` moves them there and
what is said back. So no algorithm need know of it.

I items, P prompt, K completions, R response; L = P + R, of a ranking P + K * R,
an item's tokens as they are padded; n rows of W slots and m items, whose
responses have A tokens at most.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from instruct_jax.models import attention
from instruct_jax.parallel import packing, sharding

Rows = Mapping[str, jax.Array]
TOKENS = ("prompt", "is_prompt", "response", "is_response")
# The keys among rows of `Layout`s: of all tokens, and of the responses' alone.
SLOTS, PLACES = "slots", "places"
RESPONSE_SLOTS, RESPONSE_PLACES = "response_slots", "response_places"
# Of a device at a time. On a CPU fewer tokens are computed as fast as many, and
# the last rows in use are emptier; elsewhere many are needed to be fast.
CPU_SLOTS, DEVICE_SLOTS = 320, 16384
# Short items leave much of a row of their own length empty, since one or two
# fit: up to so many tokens a row is a sixth longer. Scores of short rows cost
# little; with longer rows they cost more than the padding does.
SHORT = 64


def can_be(rows: Rows) -> bool:
  """Whether rows are prompts with responses, which can be packed."""
  return all(name in rows for name in TOKENS) and SLOTS not in rows


def joined(rows: Rows) -> tuple[jax.Array, attention.Structure]:
  """Tokens [I, L] of prompts with their responses, and their structure."""
  is_prompt, is_response = rows["is_prompt"], rows["is_response"]
  response = rows["response"].reshape(len(is_prompt), -1)
  tokens = jnp.concatenate([rows["prompt"], response], axis=1)
  if is_response.ndim == 3:
    return tokens, attention.shared_prompt(is_prompt, is_response)
  is_token = jnp.concatenate([is_prompt, is_response], axis=1)
  return tokens, attention.padded(is_token)


def plan(rows: Rows, *, parts: int = 1) -> packing.Plan:
  """Which items share a row; a row is about as long as an item can be.

  So many `parts` bound the memory: rows are computed as many at a time as a
  part of the items would be without packing, at most.
  """
  lengths, asked = (
    x.sum(axis=1, dtype=jnp.int32) for x in (_is_slot(rows), _is_response(rows))
  )
  return packing.plan(lengths, _shape_of(rows, parts), asked)


def parts_of(rows: Rows, parts: int) -> int:
  """So many `parts`, or 1 where they bound nothing: that is one program."""
  return 1 if _shape_of(rows, parts) == _shape_of(rows, 1) else parts


def _shape_of(rows, parts):
  items, prompt = rows["is_prompt"].shape
  responses = math.prod(rows["is_response"].shape[1:])
  width = _width(prompt + responses, items)
  return packing.shape_of(
    items,
    width=width,
    slots=CPU_SLOTS if sharding.platform() == "cpu" else DEVICE_SLOTS,
    parts=parts,
    # Rows of items with a prompt each seldom hold more than half of responses.
    asked=max(responses, width // 2),
  )


def _width(longest, items):
  """The slots of a row, of so many items that have so many tokens at most."""
  return longest + (longest // 6 if items > 1 and longest <= SHORT else 0)


def taken(
  rows: Rows, plan_: packing.Plan, step: jax.Array | int
) -> dict[str, Any]:
  """The items [I, ...] of some rows, with their layout.

  Items that are not there have neither tokens nor anything else.
  """
  items, is_item = plan_.taken(dict(rows), step)
  return items | _laid(items, is_item, plan_.shape)


def mapped(
  function: Callable[[dict[str, jax.Array]], Any],
  rows: Rows,
  *,
  parts: int = 1,
) -> tuple[Any, tuple[jax.Array, jax.Array]]:
  """function(rows) [B, ...] of items alone, computed in rows that they share.

  And `padding` of that.
  """
  plan_ = plan(rows, parts=parts)

  def one(items, is_item):
    return function(items | _laid(items, is_item, plan_.shape))

  found = packing.mapped(one, dict(rows), plan_)
  return found, padding(rows, plan_)


def padding(rows: Rows, plan_: packing.Plan) -> tuple[jax.Array, jax.Array]:
  """(sum, weight): slots that are computed for no token, and all of them."""
  tokens = sum(
    rows[x].sum(dtype=jnp.float32) for x in ("is_prompt", "is_response")
  )
  return plan_.slots - tokens, plan_.slots


@flax.struct.dataclass
class Layout:
  """Where tokens of items are: all of them, or their responses' alone, [n, A].

  `slots` and `places` are the inverse of each other.
  """

  slots: jax.Array  # [n, W] int32: which of the row's m * L tokens; none: m * L
  places: jax.Array  # [I, L] int32: in which slot of its row; none: W

  def moved(self, x: jax.Array) -> jax.Array:
    """x [I, L] by token -> [n, W] by slot; 0 where it is empty."""
    return _take(x.reshape(len(self.slots), -1), self.slots)

  def structure(self, of_items: attention.Structure) -> attention.Structure:
    """The structure of the rows, from that of the items' tokens."""
    I, L = self.places.shape
    branches = of_items.branches
    if branches is not None:
      branches = self.moved(jnp.broadcast_to(branches, (I, L)))
    is_empty = self.slots == I // len(self.slots) * L
    return attention.Structure(
      positions=self.moved(of_items.positions),
      is_key=self.moved(of_items.is_key),
      segments=jnp.where(is_empty, 0, self.slots // L + 1),
      branches=branches,
    )

  def at(self, tokens: jax.Array) -> jax.Array:
    """The slots [n, m * N] of an item's tokens, which are named [I, N]."""
    found = jnp.take_along_axis(self.places, tokens, axis=1)
    # That of a token which is not there is any.
    found = jnp.minimum(found, self.slots.shape[1] - 1)
    return found.reshape(len(self.slots), -1)

  def predicting(self, slots: jax.Array, before: Sequence[int]) -> jax.Array:
    """The slots that predict the tokens of a row [n, A].

    They are those of the items' tokens that `before` [L] names for each: the
    completions of a ranking all follow its prompt.
    """
    L = self.places.shape[1]
    offset = jnp.arange(L, dtype=jnp.int32) - jnp.asarray(before, jnp.int32)
    places = self.places.reshape(len(slots), -1)
    found = _take(places, slots - offset[slots % L])
    return jnp.minimum(found, self.slots.shape[1] - 1)

  def of_tokens(self, x: jax.Array, first: int, last: int) -> jax.Array:
    """x [n, W] by slot -> [I, last - first] of these tokens; 0 if not there."""
    return _of_tokens(x, self.slots, self.places, first, last)


def layouts(rows: Rows) -> tuple[Layout, Layout] | None:
  """Where all tokens of `taken` rows are, and their responses' among those that
  are asked for; None of rows that are padded."""
  if SLOTS not in rows:
    return None
  return (
    Layout(rows[SLOTS], rows[PLACES]),
    Layout(rows[RESPONSE_SLOTS], rows[RESPONSE_PLACES]),
  )


def _is_slot(rows):
  """[I, L] bool: tokens that need a slot.

  The last of the prompt does even where it is padding: it predicts the first
  token of a response to nothing. An item without a token needs none.
  """
  is_prompt, is_response = rows["is_prompt"], _is_response(rows)
  is_there = is_prompt.any(axis=1) | is_response.any(axis=1)
  is_prompt = is_prompt.at[:, -1].set(is_there)
  return jnp.concatenate([is_prompt, is_response], axis=1)


def _is_response(rows):
  """[I, L - P] bool: tokens of which something is asked."""
  return rows["is_response"].reshape(len(rows["is_prompt"]), -1)


def _laid(items, is_item, shape):
  """The layouts of the items of some rows, one behind the other."""
  there, P = is_item[:, None], items["prompt"].shape[1]
  is_response = jnp.pad(_is_response(items) & there, [(0, 0), (P, 0)])
  slots, places = _placed(_is_slot(items) & there, shape.items, shape.width)
  of_response = _placed(is_response, shape.items, shape.asked)
  return {
    SLOTS: slots,
    PLACES: places,
    RESPONSE_SLOTS: of_response[0],
    RESPONSE_PLACES: of_response[1],
  }


def _placed(is_there, m, width):
  """The `slots` [n, width] and `places` [I, L] of tokens."""
  I, L = is_there.shape
  is_there = is_there.reshape(-1, m * L)
  number = jnp.cumsum(is_there, axis=1, dtype=jnp.int32) - 1
  places = jnp.where(is_there, number, width)
  tokens = jnp.arange(m * L, dtype=jnp.int32)
  slots = jax.vmap(
    lambda i: jnp.full(width, m * L, jnp.int32).at[i].set(tokens, mode="drop")
  )(places)
  return sharding.constrain(slots, sharding.BATCH), places.reshape(I, L)


def _take(x, index):
  """x [n, N, ...] at [n, M]; 0 where an index is past the end."""
  return jax.vmap(lambda x, i: x.at[i].get(mode="fill", fill_value=0))(x, index)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _of_tokens(x, slots, places, first, last):
  I, n = len(places), len(x)
  return _take(x, places[:, first:last].reshape(n, -1)).reshape(I, -1)


def _of_tokens_forward(x, slots, places, first, last):
  return _of_tokens(x, slots, places, first, last), (slots, places)


def _of_tokens_backward(first, last, saved, grad):
  """Every slot has one token at most: what is taken back needs no sum."""
  slots, places = saved
  L = places.shape[1]
  grad = jnp.pad(grad, [(0, 0), (first, L - last)])
  return _take(grad.reshape(len(slots), -1), slots), None, None


_of_tokens.defvjp(_of_tokens_forward, _of_tokens_backward)
