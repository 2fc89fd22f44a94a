"""Which experiments there are, read from their docstrings."""

import ast
import os

from etils import epath

from instruct_jax.base import experiment_file, keys


def experiments(beside: epath.Path | None = None) -> str:
  """Each experiment's file, first line and variants; of `beside`, or ours.

  Ours where `beside` is None or no folder. Nothing is imported.
  """
  folder = (
    beside if beside is not None and beside.is_dir() else experiment_file.ours()
  )
  lines = [f"Experiments, as --config={folder}/NAME.py:VARIANT"]
  for path in sorted(folder.glob("*.py")):
    try:
      if not os.path.isfile(path):  # To read a pipe, one waits for ever.
        raise OSError
      tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):  # said when it is run
      lines.append(f"  {path.name:<14} (cannot be read as Python)")
      continue
    makers = [x for x in tree.body if getattr(x, "name", "") == "get_config"]
    if makers:
      lines.append(f"  {path.name:<14} {_first_line(tree)}")
      lines.append(f"  {'':<14} {_first_line(makers[0])}")
  return "\n".join(lines)


def help_of(arguments: list[str]) -> str:
  """What --help says of experiments: those beside --config, or ours."""
  named = [x.partition("=")[2] for x in arguments if x.startswith("--config=")]
  beside = epath.Path(named[-1].partition(":")[0]).parent if named else None
  return f"""
{experiments(beside)}

Any key can be set: --config.KEY=VALUE. --print_config shows an experiment's
keys, their values and what each means; all of them: {keys.__file__}"""


def _first_line(node) -> str:
  return (ast.get_docstring(node) or "").partition("\n")[0]
