"""Labelers that cost little: one connection each, HTTP by hand, asyncio.

They share the machine with the server that they measure, so nothing is parsed
but what is needed: the status, the length, and of a page the assignment and the
CSRF token of its form.
"""

import asyncio
import dataclasses
import json
import random
import re
import time
import uuid
from collections.abc import Mapping, Sequence

from instruct_jax import paper
from instruct_jax.base import errors

_CARD = b'class="card answer"'  # one for each response
_ASSIGNMENT = re.compile(rb'name="assignment"[^>]*?value="(\d+)"')
_CSRF = re.compile(rb'name="csrf"[^>]*?value="([^"]+)"')
_AGAIN = 0.05  # seconds between two tries to connect
_GONE = (OSError, asyncio.IncompleteReadError)


@dataclasses.dataclass(frozen=True)
class Reply:
  """What a server said, and after how many seconds."""

  status: int
  headers: Mapping[bytes, bytes]
  body: bytes
  seconds: float


@dataclasses.dataclass
class Told:
  """What one labeler has seen.

  Attributes:
    saved: {submission: the answer} of what the server said was saved.
    seconds: {"page" or "answer": how long each that was answered took}.
    lost: requests that a killed server took along, sent again.
    statuses: {status: how often}, all requests.
  """

  saved: dict[str, dict] = dataclasses.field(default_factory=dict)
  seconds: dict[str, list[float]] = dataclasses.field(
    default_factory=lambda: {"page": [], "answer": []}
  )
  lost: int = 0
  statuses: dict[int, int] = dataclasses.field(default_factory=dict)


class Connection:
  """One labeler's connection, opened again where it has gone."""

  def __init__(self, port: int):
    self._port, self._reader, self._writer = port, None, None
    self.cookie = ""

  async def send(self, method: str, path: str, body: bytes = b"") -> Reply:
    """One request and its reply; OSError or IncompleteReadError without one."""
    if self._writer is None:
      opened = await asyncio.open_connection("127.0.0.1", self._port)
      self._reader, self._writer = opened
    head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}"]
    if self.cookie:
      head.append(f"Cookie: {self.cookie}")
    if method == "POST":
      head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    began = time.perf_counter()
    try:
      self._writer.write("\r\n".join([*head, "", ""]).encode() + body)
      status, headers, body = await self._read()
    except _GONE:
      self.close()
      raise
    return Reply(status, headers, body, time.perf_counter() - began)

  async def _read(self) -> tuple[int, dict[bytes, bytes], bytes]:
    head = await self._reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    pairs = (line.split(b":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    size = int(headers.get(b"content-length", 0))
    body = await self._reader.readexactly(size) if size else b""
    if headers.get(b"connection") == b"close":
      self.close()
    return int(first.split()[1]), headers, body

  def close(self) -> None:
    """Leaves it; the next request opens another."""
    if self._writer is not None:
      self._writer.close()
    self._reader = self._writer = None


class Labeler:
  """One simulated labeler of a load: reads, thinks, answers, reads."""

  def __init__(self, port: int, token: str, think: float, seed: int):
    self.told = Told()
    self._connection, self._token = Connection(port), token
    self._think, self._rng = think, random.Random(seed)

  async def work(self, end: float) -> Told:
    """Answers rankings until `time.monotonic()` is `end`; what it has seen."""
    reply = await self._sure("GET", f"/invite/{self._token}")
    cookie = reply.headers[b"set-cookie"].decode().partition(";")[0]
    self._connection.cookie = cookie
    # People do not come at the same moment.
    await asyncio.sleep(self._think * self._rng.random())
    while time.monotonic() < end:
      page = await self._sure("GET", "/work", "page")
      found = _ASSIGNMENT.search(page.body), _CSRF.search(page.body)
      if page.status == 200 and not all(found):
        raise errors.UserError(
          "a labeler has done every task before the end: give more --tasks,"
          " fewer --seconds or a longer --think"
        )
      if not all(found):
        raise RuntimeError(f"no form: {page.status} {page.body[:500]!r}")
      assignment, csrf = (each[1].decode() for each in found)
      if self._think:
        await asyncio.sleep(self._rng.expovariate(1 / self._think))
      await self._answer(int(assignment), csrf, page.body)
    self._connection.close()
    return self.told

  async def _answer(self, assignment: int, csrf: str, page: bytes) -> None:
    count = page.count(_CARD)
    answer, submission = ranking(self._rng, count), str(uuid.uuid4())
    body = {"assignment": assignment, "submission": submission, "csrf": csrf}
    body |= {"answer": answer, "seconds": 12.5, "sensitive": False}
    reply = await self._sure(
      "POST", "/answer", "answer", json.dumps(body).encode()
    )
    if reply.status != 200:
      raise RuntimeError(f"not saved: {reply.status} {reply.body[:500]!r}")
    self.told.saved[submission] = answer

  async def _sure(
    self, method: str, path: str, kind: str = "", body: bytes = b""
  ) -> Reply:
    """Sends it until there is a reply."""
    while True:
      try:
        reply = await self._connection.send(method, path, body)
      except _GONE:
        self.told.lost += 1
        await asyncio.sleep(_AGAIN)
        continue
      counts = self.told.statuses
      counts[reply.status] = counts.get(reply.status, 0) + 1
      if kind:
        self.told.seconds[kind].append(reply.seconds)
      return reply


def ranking(rng: random.Random, count: int) -> dict:
  """Some answer to a ranking of so many responses, in the shown order."""
  ratings = [rng.randint(1, 7) for _ in range(count)]
  places = {r: n for n, r in enumerate(sorted(set(ratings), reverse=True), 1)}
  return {
    "ratings": ratings,
    "metadata": [dict.fromkeys(paper.METADATA, False) for _ in ratings],
    "ranks": [places[rating] for rating in ratings],
  }


async def together(
  port: int, tokens: Sequence[str], seconds: float, think: float
) -> list[Told]:
  """What every labeler saw, all at work at once for so many seconds."""
  end = time.monotonic() + seconds
  labelers = [
    Labeler(port, token, think, seed) for seed, token in enumerate(tokens)
  ]
  return list(await asyncio.gather(*(one.work(end) for one in labelers)))
