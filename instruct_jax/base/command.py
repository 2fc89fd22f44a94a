"""The door that every command leaves by: flags, errors for people, exit codes.

A command's `__main__` ends in `run_main` (absl's flags) or `run` (argparse).
Whatever happens inside leaves as one message and one exit code; only an error
that nobody foresaw leaves as a traceback, with the request to report it.
"""

import argparse
import difflib
import faulthandler
import gc
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from absl import flags
from absl import logging as absl_logging

from instruct_jax.base import (
  errors,
  interrupt,
  peers,
  platforms,
  ranges,
  streams,
)

BUG = 1
BAD_INPUT = 2
DIVERGED = 3
CLOSED_PIPE = 141  # what a shell says of a command whose reader has gone

AGAIN = "the same command starts from the beginning"


def run_main(
  main: Callable[[list[str]], None],
  check: Callable[[list[str]], None] = lambda argv: None,
  *,
  names: tuple[str, ...] = (),
  more: Callable[[list[str]], str] = lambda argv: "",
  resumes: str = "",
  stopped: str = AGAIN,
) -> NoReturn:
  """Runs `main` with what absl's flags leave of the arguments; as `run`.

  `check` sees the arguments before they are parsed and may raise UserError;
  `names` are those of the arguments that are no options. --help prints the
  docstring of the module of `main`, its options, and what `more` says.
  """

  def parsed():
    argv = _parse(main, check, more, sys.argv)
    if len(argv) > 1 + len(names):
      raise errors.UserError(
        f"unexpected argument '{argv[1 + len(names)]}': options are"
        " --name=value"
      )
    if len(argv) < 1 + len(names):
      raise errors.UserError(f"missing: {' '.join(names[len(argv) - 1 :])}")
    given = (flags.FLAGS[name] for name in flags.FLAGS)
    ranges.check_flags(
      {flag.name: flag.value for flag in given if flag.present}
    )
    for name, value in zip(names, argv[1:]):
      ranges.require(name, value, ranges.NAME)
    main(argv)

  run(parsed, resumes=resumes, stopped=stopped)


def run(
  main: Callable[[], None], *, resumes: str = "", stopped: str = AGAIN
) -> NoReturn:
  """Calls `main` and ends the process: THE door of every command.

  Args:
    resumes: what the same command does after an end that was not its own, of a
      command that saves its work on the way and looks at
      `interrupt.requested`; '' of all others.
    stopped: the same of the others, for the message after Ctrl-C.

  Exit codes: 0 done, 1 a bug, 2 bad input, 3 diverged, 75 SIGTERM, 130 Ctrl-C,
  141 whoever read the output has closed it.
  """
  streams.prepare()
  faulthandler.enable(file=2)
  interrupt.install(saves=bool(resumes))
  log_to_stderr()
  platforms.settle()
  code, message, problem, is_broken_off = 0, "", None, False
  try:
    _check_surroundings(results_on_disk=bool(resumes))
    main()
  except BaseException as error:
    code, message = _described(error, resumes, stopped)
    problem = error if streams.is_of_stdout(error) else None
    is_broken_off = isinstance(error, KeyboardInterrupt)
  interrupt.end_at_once()
  problem = streams.finish() or problem
  if problem and code in (0, BUG, BAD_INPUT):
    code, message = _described(problem, resumes, stopped)
  if peers.current is not None:
    peers.current.ends(code, message)
    is_broken_off = True
  _end(code, message, at_once=is_broken_off)


def log_to_stderr(level: int = logging.INFO) -> None:
  """Shows what the package says of its progress; libraries only warn."""
  absl_logging.use_absl_handler()
  absl_logging.set_verbosity(absl_logging.WARNING)
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  package = logging.getLogger("instruct_jax")
  package.handlers = [handler]
  package.propagate = False
  package.setLevel(level)


class Parser(argparse.ArgumentParser):
  """argparse's, whose errors are ours and whose help keeps its lines."""

  def __init__(self, prog: str, description: str | None, epilog: str = ""):
    super().__init__(
      prog=f"python -m {prog}",
      description=description,
      epilog=epilog,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )

  def parse_args(self, *args: Any, **kwargs: Any) -> Any:
    """As argparse's; UserError for values outside `ranges.FLAGS`."""
    given = super().parse_args(*args, **kwargs)
    ranges.check_flags({k: x for k, x in vars(given).items() if x is not None})
    return given

  def error(self, message: str) -> NoReturn:
    unread = re.match(r"argument --(\w+): invalid \w+ value: '(.*)'$", message)
    row = ranges.row_of(unread[1]) if unread else None
    if unread and row:
      raise errors.UserError(f"--{unread[1]}={unread[2]}: must be {row.right}")
    raise errors.UserError(f"{message}. {self.prog} --help shows what is right")


def usage(main: Callable[[list[str]], None], program: str) -> str:
  """What a command line is for and its options, as --help shows them."""
  lines = [str(sys.modules[main.__module__].__doc__).strip(), "", "Options:"]
  for flag in flags.FLAGS.get_key_flags_for_module(program):
    default = "" if flag.default in (None, [], "") else f"={flag.default}"
    name = f"[no]{flag.name}" if flag.boolean else f"{flag.name}{default}"
    lines.append(f"  --{name:<22} {' '.join(flag.help.split())}")
  return "\n".join(lines)


def _check_surroundings(*, results_on_disk: bool) -> None:
  """UserError where nothing that is printed, or was typed, would arrive."""
  if streams.was_closed("stdout") and not results_on_disk:
    raise errors.UserError(
      "stdout is closed, and what this command finds goes there: > FILE"
    )
  for number, argument in enumerate(sys.argv):
    try:  # Python keeps bytes that it cannot read in a form of its own.
      sys.argv[number] = os.fsencode(argument).decode("utf-8")
    except UnicodeDecodeError:
      raise errors.UserError(f"{argument!r}: is not UTF-8") from None


def _described(
  error: BaseException, resumes: str, stopped: str
) -> tuple[int, str]:
  """The exit code of what `main` raised, and what to say of it."""
  if isinstance(error, SystemExit):
    code = error.code
    if code is None or isinstance(code, int):
      return code or 0, ""
    return BUG, str(code)
  if isinstance(error, errors.UserError):
    return BAD_INPUT, f"error: {error}"
  if isinstance(error, BrokenPipeError):  # whoever read has seen enough
    return CLOSED_PIPE, ""
  if isinstance(error, errors.Diverged):
    return DIVERGED, f"error: {error}"
  if isinstance(error, interrupt.Interrupted):
    return (
      interrupt.EXIT_CODE,
      "error: stopped by SIGTERM; what was done is saved, and the same command"
      " goes on from there",
    )
  if isinstance(error, interrupt.Stopped):
    return (
      interrupt.EXIT_CODE,
      f"error: stopped by SIGTERM; {resumes or stopped}",
    )
  if isinstance(error, interrupt.Left):
    return interrupt.CTRL_C, ""
  if isinstance(error, KeyboardInterrupt):
    return interrupt.CTRL_C, f"error: interrupted; {resumes or stopped}"
  if isinstance(error, BrokenPipeError) and streams.is_of_stdout(error):
    return CLOSED_PIPE, ""  # whoever read this has seen enough
  if refused := errors.of_system(error):
    # Whether anything was saved by then is not known here.
    then = "; then give the same command again" if resumes else ""
    return BAD_INPUT, f"error: {refused}{then}"
  lines = "".join(traceback.format_exception(error))
  return BUG, (
    f"{lines}\nThis is a bug in instruct_jax, not in what you typed: please"
    " report it with these lines and the command."
  )


def _end(code: int, message: str, *, at_once: bool) -> NoReturn:
  """Says why, and ends the process.

  After an interruption (`at_once`), be it Ctrl-C or a SIGTERM that nothing is
  saved after, and where there are other processes, nothing of the interpreter
  is taken down: a program that was broken off in the middle of tracing or
  compiling leaves objects behind that crash jax when they are freed after it.
  Locks, partial files and saves have been seen to as the error came up to here.
  """
  if message:
    print(message, file=sys.stderr)
  streams.finish()
  if at_once:
    logging.shutdown()
    os._exit(code)
  gc.freeze()  # nothing that is there need be looked through: 0.8 of 2.8 s
  sys.exit(code)


def _parse(main, check, more, argv):
  if {"--help", "-help", "-h"} & set(argv[1:]):
    print(f"{usage(main, argv[0])}\n{more(argv[1:])}".rstrip())
    sys.exit(0)
  return read_flags(flags.FLAGS, argv, check)


def read_flags(
  values: flags.FlagValues,
  argv: list[str],
  check: Callable[[list[str]], None] = lambda argv: None,
) -> list[str]:
  """What flags leave of the arguments; UserError for what they cannot read.

  `check` sees the arguments before.
  """
  try:
    check(argv[1:])
    return values(argv)
  except flags.UnrecognizedFlagError as error:
    raise errors.UserError(_unrecognized(error, values)) from None
  except flags.IllegalFlagValueError as error:
    raise errors.UserError(_illegal(str(error), argv)) from None
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError,
          OSError) as error:  # fmt: skip
    text = str(error) or type(error).__name__
    raise errors.UserError(text) from None


def _illegal(message, argv):
  """What absl says of a value that it cannot read, in our words if we can."""
  name = message.removeprefix("flag --").partition("=")[0]
  row = ranges.row_of(name)
  values = [x.partition("=")[2] for x in argv if x.startswith(f"--{name}=")]
  if row is None or not values:
    return message
  return f"--{name}={values[-1]}: must be {row.right}"


def _unrecognized(error, values):
  names = list(values)
  near = difflib.get_close_matches(error.flagname, names, n=1, cutoff=0.5)
  hint = f" Did you mean --{near[0]}?" if near else " --help lists them."
  return f"unknown option --{error.flagname}.{hint}"
