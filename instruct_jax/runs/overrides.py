"""What a command line says of a config: its file, and the keys that it sets."""

from collections.abc import Sequence

from etils import epath

from instruct_jax.base import experiment_file, keys
from instruct_jax.runs import references


def check(arguments: Sequence[str]) -> None:
  """UserError for a config that is not there, or a key that it has not."""
  given = [a.lstrip("-").partition("=") for a in arguments if a[:1] == "-"]
  named = named_config(arguments)
  if named is None:
    return
  name, _, variant = named.partition(":")
  path = epath.Path(name)
  if path.name and not path.exists():
    raise experiment_file.missing(path.name, path.parent)
  default, _ = references.load_config(f"{path.name}:{variant}", path.parent)
  names = [name for name, _, _ in given if name.startswith("config.")]
  keys.check(
    [name.removeprefix("config.") for name in names], keys.flatten(default)
  )


def named_config(arguments: Sequence[str]) -> str | None:
  """What the last --config=X, or --config X, names."""
  named = None
  for argument, after in zip(arguments, [*arguments[1:], ""]):
    name, equals, value = argument.partition("=")
    if name in ("--config", "-config"):
      named = value if equals else after
  return named
