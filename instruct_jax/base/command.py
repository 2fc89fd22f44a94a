"""What the command lines share: flags, errors for people, exit codes."""

import difflib
import logging
import sys
from collections.abc import Callable

from absl import app, flags
from absl import logging as absl_logging

from instruct_jax.base import errors, interrupt

BAD_INPUT = 2
DIVERGED = 3


def run(
  main: Callable[[list[str]], None],
  check: Callable[[list[str]], None] = lambda argv: None,
  *,
  names: tuple[str, ...] = (),
) -> None:
  """Runs `main` under absl; bad input ends in a message, not a traceback.

  `check` sees the arguments before they are parsed and may raise UserError;
  `names` are those of the arguments that are no options.
  """
  app.run(
    lambda argv: _guarded(main, argv, names),
    flags_parser=lambda argv: _parse(check, argv),
  )


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


def _parse(check, argv):
  try:
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
