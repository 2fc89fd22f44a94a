"""The worlds by name; `interface` says what a world is.

A world is imported when it is used. A dotted name that is not in the registry
is a module of people's own: `config.data.source = "my_package.my_world"`.
"""

from instruct_jax.base import errors, outside
from instruct_jax.worlds import interface

WORLDS = {
  "microworld": "instruct_jax.worlds.microworld.world",
  "files": "instruct_jax.worlds.files",
}


def of(data: interface.Data) -> interface.World:
  """The world of a section `config.data`.

  Raises UserError for an unknown name, and for a module without a WORLD.
  """
  name = data.source
  if name not in WORLDS and "." not in name:
    raise errors.unknown("data.source", name, WORLDS)
  module = outside.module(WORLDS.get(name, name), "config.data.source")
  world = getattr(module, "WORLD", None)
  if not isinstance(world, interface.World):
    raise errors.UserError(
      f"config.data.source={name}: the module has no WORLD of the type"
      " instruct_jax.worlds.interface.World"
    )
  return world
