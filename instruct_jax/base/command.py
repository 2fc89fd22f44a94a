"""What the command lines share: flags, errors for people, exit codes."""

import difflib
import logging
import os
import sys
from collections.abc import Callable

from absl import app, flags
from absl import logging as absl_logging

from instruct_jax.base import errors, interrupt

BAD_INPUT = 2
DIVERGED = 3


def run_main(
  main: Callable[[list[str]], None],
  check: Callable[[list[str]], None] = lambda argv: None,
  *,
  names: tuple[str, ...] = (),
  more: Callable[[list[str]], str] = lambda argv: "",
) -> None:
  """Runs `main` under absl; bad input ends in a message, not a traceback.

  `check` sees the arguments before they are parsed and may raise UserError;
  `names` are those of the arguments that are no options. --help prints the
  docstring of the module of `main`, its options, and what `more` says.
  """
  app.run(
    lambda argv: _guarded(main, argv, names),
    flags_parser=lambda argv: _parse(main, check, more, argv),
  )


def usage(main: Callable[[list[str]], None], program: str) -> str:
  """What a command line is for and its options, as --help shows them."""
  lines = [str(sys.modules[main.__module__].__doc__).strip(), "", "Options:"]
  for flag in flags.FLAGS.get_key_flags_for_module(program):
    default = "" if flag.default in (None, [], "") else f"={flag.default}"
    name = f"[no]{flag.name}" if flag.boolean else f"{flag.name}{default}"
    lines.append(f"  --{name:<22} {' '.join(flag.help.split())}")
  return "\n".join(lines)


def log_to_stderr() -> None:
  """Shows what the package says of its progress; libraries only warn."""
  absl_logging.set_verbosity(absl_logging.WARNING)
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  package = logging.getLogger("instruct_jax")
  package.handlers = [handler]
  package.propagate = False
  package.setLevel(logging.INFO)


def _guarded(main, argv, names):
  log_to_stderr()
  try:
    if len(argv) > 1 + len(names):
      raise errors.UserError(
        f"unexpected argument '{argv[1 + len(names)]}': options are"
        " --name=value"
      )
    if len(argv) < 1 + len(names):
      raise errors.UserError(f"missing: {' '.join(names[len(argv) - 1 :])}")
    main(argv)
  except errors.UserError as error:
    _fail(error, BAD_INPUT)
  except errors.Diverged as error:
    _fail(error, DIVERGED)
  except interrupt.Interrupted:
    _fail(
      "stopped by SIGTERM; what was done is saved, and the same command "
      "goes on from there",
      interrupt.EXIT_CODE,
    )
  except KeyboardInterrupt:
    _fail("interrupted; the same command goes on from the last save", 130)
  except BrokenPipeError:  # whoever read this has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _parse(main, check, more, argv):
  try:
    if {"--help", "-help", "-h"} & set(argv[1:]):
      print(f"{usage(main, argv[0])}\n{more(argv[1:])}".rstrip())
      sys.exit(0)
    check(argv[1:])
    return flags.FLAGS(argv)
  except errors.UserError as error:
    _fail(error, BAD_INPUT)
  except flags.UnrecognizedFlagError as error:
    _fail(_unrecognized(error), BAD_INPUT)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError,
          OSError) as error:  # fmt: skip
    _fail(str(error) or type(error).__name__, BAD_INPUT)


def _unrecognized(error):
  names = list(flags.FLAGS)
  near = difflib.get_close_matches(error.flagname, names, n=1, cutoff=0.5)
  hint = f" Did you mean --{near[0]}?" if near else " --help lists them."
  return f"unknown option --{error.flagname}.{hint}"


def _fail(message, code):
  print(f"error: {message}", file=sys.stderr)
  sys.exit(code)
