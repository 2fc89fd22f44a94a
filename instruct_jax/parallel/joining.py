"""The processes of a job find each other; then they are bound by `link`.

Each but the first connects to that one, at the address that all were given,
and says who it is. Who does not belong is sent away with the reason.
"""

import os
import socket
import threading
import time

from instruct_jax.base import errors, interrupt
from instruct_jax.parallel import link, wire

_HELLO = 10.0  # seconds in which somebody who connects has to say who he is


def join(place: link.Place, seconds: float) -> link.Link:
  """Finds the other processes of a job.

  Raises UserError where they do not all come within so many seconds, or two
  say that they are the same; Interrupted after SIGTERM.
  """
  if place.index:
    return _join_first(place, seconds)
  listener = wire.listen(place.coordinator, min(seconds, 10.0))
  try:
    wires, hosts = _receive_others(place, listener, seconds)
  except BaseException:
    listener.close()
    raise
  names = [hosts[index] for index in range(place.count)]
  threading.Thread(
    target=_turn_away, args=(listener, names), daemon=True
  ).start()
  for each in wires.values():
    each.send({"hosts": names})
  return link.Link(place, names, wires)


def _join_first(place: link.Place, seconds: float) -> link.Link:
  end = time.monotonic() + seconds + _HELLO
  first = wire.connect(place.coordinator, seconds)
  hello = {"process": place.index, "processes": place.count}
  first.send(hello | {"host": socket.gethostname(), "pid": os.getpid()})
  answer = first.receive(max(1.0, end - time.monotonic()))
  if answer is None:
    raise errors.UserError(
      f"--coordinator={place.coordinator}: who listens there is no process 0 of"
      " this command, or it has ended"
    )
  if "refused" in answer:
    raise errors.UserError(answer["refused"])
  return link.Link(place, answer["hosts"], {0: first})


def _receive_others(
  place: link.Place, listener: socket.socket, seconds: float
) -> tuple[dict[int, wire.Wire], dict[int, str]]:
  """The connections of all others, and the names of their hosts."""
  end = time.monotonic() + seconds
  wires: dict[int, wire.Wire] = {}
  hosts = {0: socket.gethostname()}
  listener.settimeout(0.2)
  while len(wires) < place.count - 1:
    interrupt.check()
    why, late = "", None
    try:
      late = wire.Wire(listener.accept()[0])
      hello = late.receive(_HELLO)
      if hello is None or not {"process", "processes", "host"} <= set(hello):
        late.close()  # somebody else, who looks for open ports
        continue
      why = _refusal(place, hello, hosts)
      if not why:
        wires[hello["process"]] = late
        hosts[hello["process"]] = hello["host"]
    except TimeoutError:
      if time.monotonic() > end:
        missing = [i for i in range(place.count) if i not in hosts]
        why = (
          f"--processes={place.count}: {len(hosts)} came within {seconds:.0f}"
          f" s; missing: {', '.join(f'--process={i}' for i in missing)}"
        )
    if why:
      for each in (*wires.values(), *([late] if late else [])):
        each.send({"refused": why})
      raise errors.UserError(why)
  return wires, hosts


def _turn_away(listener: socket.socket, hosts: list[str]) -> None:
  """Says to who comes later that all are there; the port stays taken."""
  listener.settimeout(None)
  while True:
    try:
      late = wire.Wire(listener.accept()[0])
    except OSError:
      return
    why = f"all {len(hosts)} processes are there already: {', '.join(hosts)}"
    late.send({"refused": f"--process: {why}"})


def _refusal(
  place: link.Place, hello: wire.Message, hosts: dict[int, str]
) -> str:
  index, host = hello["process"], hello["host"]
  if hello["processes"] != place.count:
    return (
      f"--processes={hello['processes']} of process {index} ({host}), but"
      f" --processes={place.count} of process 0 ({hosts[0]}): give all the same"
    )
  if index in hosts:
    return (
      f"--process={index} is given twice, on {hosts[index]} and on {host}: give"
      f" each its own, from 0 to {place.count - 1}"
    )
  return ""
