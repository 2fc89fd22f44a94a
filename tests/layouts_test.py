"""Rules of a network's own: every table entry, moved as a layout says."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from instruct_jax.base import errors
from instruct_jax.models import heads
from instruct_jax.parallel import layouts, sharding

_ALL = P(None, ("fsdp", "tensor"))


@pytest.mark.parametrize(
  ("layout", "query", "down", "table", "bias"),
  [
    ("both", P("fsdp", "tensor"), P("tensor", "fsdp"), _ALL, P("tensor")),
    ("fsdp", P(("fsdp", "tensor")), P(None, ("fsdp", "tensor")), _ALL, P(None)),
    ("tensor", P(None, "tensor"), P("tensor"), P(None, "tensor"), P("tensor")),
    ("copied", P(None, None), P(None, None), P(None, None), P(None)),
  ],
)
def test_a_layout_moves_the_axes_of_every_rule(
  layout, query, down, table, bias
):
  mesh = sharding.make_mesh(2, 2, 2)
  shapes = {
    "query/kernel": query,
    "down/kernel": down,
    "token_embedding/embedding": table,
    "query/bias": bias,
  }
  tree = {
    name: jnp.zeros((4,) * (1 if "bias" in name else 2)) for name in shapes
  }
  found = sharding.place(tree, mesh, layouts.rules(heads.RULES, layout))
  for name, spec in shapes.items():
    wanted = jax.sharding.NamedSharding(mesh, spec)
    assert found[name].is_equivalent_to(wanted, tree[name].ndim), name


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_no_rule_is_lost_and_none_names_an_axis_twice(layout):
  found = layouts.rules(heads.RULES, layout)
  assert [path for path, _ in found] == [path for path, _ in heads.RULES]
  for (_, old), (_, new) in zip(heads.RULES, found):
    axes = [axis for entry in new for axis in sharding.axes_of(entry)]
    assert len(old) == len(new)
    assert len(axes) == len(set(axes))


def test_an_unknown_layout_is_said_with_the_known_ones():
  with pytest.raises(errors.UserError, match=r"'fdsp'.*fsdp.*copied"):
    layouts.rules(heads.RULES, "fdsp")


def test_bytes_are_those_of_a_device():
  mesh = sharding.make_mesh(2, 2, 2)
  place = jax.sharding.NamedSharding(mesh, P("fsdp", "tensor"))
  split = jax.device_put(jnp.zeros((4, 6), jnp.float32), place)
  shape = jax.ShapeDtypeStruct((4, 6), jnp.bfloat16, sharding=place)
  alone = jax.ShapeDtypeStruct((3,), jnp.float32)
  assert layouts.device_bytes({"a": split}) == 4 * 24 // 4
  assert layouts.device_bytes([split, shape]) == 24 + 12
  assert layouts.device_bytes(alone) == 12
  assert layouts.device_bytes(jax.random.key(0)) == 0
