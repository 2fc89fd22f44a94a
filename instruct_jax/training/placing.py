"""The first state of a run, with no array held twice that need not be.

What an update takes over (donates) must be a copy of its own. All else may be
the very array of a checkpoint, and one for several roles: a reference is the
policy that it is the reference of. Which is which is read off the traced
program, in which an array that is handed on is one variable.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from instruct_jax import algorithms
from instruct_jax.models import heads
from instruct_jax.parallel import layouts, sharding


class Creation:
  """A function that makes a state of a key and checkpoints, traced."""

  def __init__(
    self,
    create: Callable[[jax.Array, Any], Any],
    place: Callable[[Any], Any],
    key: jax.Array,
    checkpoints: Any,
  ):
    """`place` gives the shardings of a tree of shapes."""
    self._create, self._arguments = create, (key, checkpoints)
    traced, shapes = jax.make_jaxpr(create, return_shape=True)(key, checkpoints)
    leaves, self._structure = jax.tree_util.tree_flatten_with_path(shapes)
    self._paths = [sharding.path_name(path) for path, _ in leaves]
    self._shardings = jax.tree.leaves(place(shapes))
    given, _ = jax.tree_util.tree_flatten_with_path(checkpoints)
    variables = traced.jaxpr.invars[-len(given) :] if given else []
    self._given = {
      id(variable): (sharding.path_name(path), array)
      for variable, (path, array) in zip(variables, given)
    }
    self._read_from = {id(v): self._given[id(v)][0] for v in variables} | {
      id(equation.outvars[0]): self._given[id(equation.invars[0])][0]
      for equation in traced.jaxpr.eqns
      if equation.primitive is jax.lax.convert_element_type_p
      and id(equation.invars[0]) in self._given
    }
    self._traced = traced  # Keeps the variables, and so their ids, alive.
    self._variables = [id(variable) for variable in traced.jaxpr.outvars]

  def sources(self) -> dict[str, str]:
    """{path in the state: path in the checkpoints, '' where it is new}.

    Also of what is another dtype's there.
    """
    return {
      path: self._read_from.get(variable, "")
      for path, variable in zip(self._paths, self._variables)
    }

  def make(self, is_taken_over: Callable[[str], bool]) -> Any:
    """The state. Arrays that are not taken over, by path, are shared."""
    shared, wanted, here = {}, [], []
    for i, (path, variable) in enumerate(zip(self._paths, self._variables)):
      name = i if is_taken_over(path) else (variable, str(self._shardings[i]))
      here.append(name)
      if name in shared:
        continue
      shared[name] = None
      if name != i and variable in self._given:
        array = self._given[variable][1]
        shared[name] = jax.device_put(array, self._shardings[i])
      else:
        wanted.append(i)
    for i, array in zip(wanted, self._computed(wanted)):
      shared[here[i]] = array
    leaves = [shared[name] for name in here]
    return jax.tree_util.tree_unflatten(self._structure, leaves)

  def _computed(self, wanted: list[int]) -> list[jax.Array]:
    """The arrays of the state that no checkpoint holds, or that are copied."""

    def first_state(key, checkpoints):
      leaves = jax.tree.leaves(self._create(key, checkpoints))
      return [leaves[i] for i in wanted]

    placement = [self._shardings[i] for i in wanted]
    return jax.jit(first_state, out_shardings=placement)(*self._arguments)


_BY_ROLE = ("params", "optimizer", "ema", "frozen")


def places(
  state: algorithms.State, mesh: jax.sharding.Mesh, layout: Mapping[str, str]
) -> algorithms.State:
  """The sharding of every array of a state, or of its shapes.

  What belongs to a role lies as `layout` (`config.layout`) says of it. Raises
  UserError as `sharding.place` and `layouts.rules`.
  """

  def of(field, role, tree):
    how = layout.get(role, layouts.BOTH)  # an algorithm's own roles, too
    rules = layouts.rules(heads.RULES, how)
    # By its whole path, which errors name and the rules go by.
    return sharding.place({field: {role: tree}}, mesh, rules)[field][role]

  found = {}
  for name in (field.name for field in dataclasses.fields(state)):
    part = getattr(state, name)
    if name in _BY_ROLE:
      found[name] = {role: of(name, role, x) for role, x in part.items()}
    else:
      found[name] = sharding.place({name: part}, mesh, heads.RULES)[name]
  return state.replace(**found)
