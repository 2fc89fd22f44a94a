"""A judge behind an endpoint, held against a stand-in that misbehaves."""

import collections
import http.server
import json
import re
import threading
import time

import pytest

from instruct_jax.base import errors
from instruct_jax.scoring import endpoint as endpoint_lib
from instruct_jax.scoring import model_judge

_SHOWN = re.compile(
  r"\[Answer A\]\n(.*?)\n\n\[Answer B\]\n(.*?)\n\n\[End", re.DOTALL
)


class Server:
  """Answers as `say(first, second, times asked)` tells; counts what it gets.

  `say` returns a text, or (status, headers, body) as it is.
  """

  def __init__(self, say):
    self.asked, self.headers, self.bodies = collections.Counter(), [], []
    self.say = say
    outer, lock = self, threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        shown = _SHOWN.search(body["messages"][-1]["content"]).groups()
        with lock:
          outer.asked[shown] += 1
          outer.headers.append(dict(self.headers))
          outer.bodies.append(body)
          times = outer.asked[shown]
        said = outer.say(*shown, times)
        if isinstance(said, str):
          said = 200, {}, completion(said)
        status, headers, content = said
        try:
          self.send_response(status)
          for name, value in headers.items():
            self.send_header(name, value)
          self.end_headers()
          self.wfile.write(content)
        except OSError:  # nobody waits for it any more
          pass

      def log_message(self, *_):
        pass

    self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
    self._thread = threading.Thread(
      target=self._server.serve_forever, args=(0.01,)
    )
    self._thread.start()

  def close(self):
    self._server.shutdown()
    self._server.server_close()
    self._thread.join()


def completion(text, usage=(100, 3)):
  tree = {"choices": [{"message": {"role": "assistant", "content": text}}]}
  if usage:
    tree["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), usage))
  return json.dumps(tree).encode()


def longer(first, second, times):
  """Prefers the longer answer, whichever stands first."""
  del times
  if len(first) == len(second):
    return "[[C]]"
  return "[[A]]" if len(first) > len(second) else "[[B]]"


@pytest.fixture
def serve():
  servers = []

  def start(say):
    servers.append(Server(say))
    return servers[-1]

  yield start
  for server in servers:
    server.close()


@pytest.fixture
def cache(tmp_path):
  return tmp_path / "judge.jsonl"


def at(server, **more):
  options = {"timeout": 5.0, "pause": 0.001} | more
  return endpoint_lib.Endpoint(server.url, "judge-1", **options)


def questions(*pairs):
  return [
    model_judge.Question(f"prompt {n}", *pair) for n, pair in enumerate(pairs)
  ]


def test_both_orders_and_what_it_costs(serve, cache):
  server = serve(longer)
  asked = questions(("long one", "one"), ("a", "bbb"), ("aa", "bb"), ("x", "x"))
  shares, counts = model_judge.judge(at(server), asked, cache)
  assert shares == [1.0, 0.0, 0.5, 0.5]
  assert counts == {
    "questions": 4,
    "identical": 1,
    "contrary": 0,
    "no_verdict": 0,
    "answers": 6,
    "nonsense": 0,
    "failed": 0,
    "retries": 0,
    "prompt_tokens": 600,
    "completion_tokens": 18,
    "answers_without_tokens": 0,
    "asked_now": 6,
  }
  assert server.asked["long one", "one"] == server.asked["one", "long one"] == 1
  assert "x" not in {text for shown in server.asked for text in shown}


def test_who_likes_what_stands_first_says_nothing(serve, cache):
  shares, counts = model_judge.judge(
    at(serve(lambda *_: "[[A]]")), questions(("one", "two")), cache
  )
  assert shares == [0.5]
  assert (counts["contrary"], counts["nonsense"]) == (1, 0)


def test_a_tie_and_a_win_is_a_tie(serve, cache):
  server = serve(lambda first, *_: "[[A]]" if first == "one" else "[[C]]")
  shares, counts = model_judge.judge(
    at(server), questions(("one", "two")), cache
  )
  assert (shares, counts["contrary"]) == ([0.5], 0)


def test_nonsense_is_counted_and_left_out(serve, cache):
  server = serve(
    lambda first, second, times: (
      "I like both!" if first == "one" else longer(first, second, times)
    )
  )
  asked = questions(("one", "three"), ("a", "bb"))
  shares, counts = model_judge.judge(at(server), asked, cache)
  assert shares == [None, 0.0]
  assert (counts["nonsense"], counts["no_verdict"], counts["failed"]) == (
    1,
    1,
    0,
  )
  # It is an answer, and paid for: not asked again.
  _, again = model_judge.judge(at(server), asked, cache)
  assert (again["asked_now"], again["nonsense"]) == (0, 1)


@pytest.mark.parametrize(
  "first",
  [
    (429, {"Retry-After": "0"}, b'{"error": {"message": "slow down"}}'),
    (503, {}, b"<html>busy</html>"),
    (200, {}, b"<html>hello</html>"),
    (200, {}, b'{"choices": []}'),
    (200, {}, b"[1]"),
    (200, {"Content-Length": "1000"}, b'{"choices"'),
  ],
  ids=["429", "503", "no JSON", "no choice", "no object", "broken off"],
)
def test_what_passes_is_asked_again(serve, cache, first):
  server = serve(
    lambda a, b, times: first if times == 1 else longer(a, b, times)
  )
  shares, counts = model_judge.judge(
    at(server), questions(("long one", "one")), cache
  )
  assert (shares, counts["retries"], counts["failed"]) == ([1.0], 2, 0)


def test_a_server_that_is_too_late(serve, cache):
  waited = threading.Event()

  def say(first, second, times):
    if first == "slow" and times == 1:
      waited.wait(2)
    return longer(first, second, times)

  server = serve(say)
  shares, counts = model_judge.judge(
    at(server, timeout=0.2), questions(("slow", "b")), cache
  )
  waited.set()
  assert (shares, counts["retries"]) == ([1.0], 1)


def test_a_server_that_trickles(serve):
  """A byte now and then does not make an answer."""
  pieces = iter([b"x"] * 100)

  def read(_):
    time.sleep(0.02)
    return next(pieces)

  with pytest.raises(TimeoutError):
    endpoint_lib._read(read, time.monotonic() + 0.1)


def test_half_of_the_answers(serve, cache):
  """What is refused is counted; what was not is judged; and asked anew."""
  refuses = [True]

  def say(first, second, times):
    if refuses[0] and "bad" in (first, second):
      return 400, {}, b'{"error": {"message": "too long"}}'
    return longer(first, second, times)

  server = serve(say)
  asked = questions(("good one", "x"), ("bad", "y"), ("z", "other"))
  shares, counts = model_judge.judge(at(server), asked, cache)
  assert shares == [1.0, None, 0.0]
  assert (counts["failed"], counts["no_verdict"], counts["answers"]) == (
    2,
    1,
    4,
  )
  assert server.asked["bad", "y"] == 1  # no sense in asking the same again
  refuses[0] = False
  shares, counts = model_judge.judge(at(server), asked, cache)
  assert shares == [1.0, 1.0, 0.0]
  assert (counts["asked_now"], counts["answers"]) == (2, 6)


def test_retries_have_an_end(serve, cache):
  server = serve(
    lambda a, b, times: (500, {}, b"") if a == "a" else longer(a, b, times)
  )
  shares, counts = model_judge.judge(
    at(server, retries=2), questions(("a", "bb"), ("c", "dd")), cache
  )
  assert (shares, counts["failed"]) == ([None, 0.0], 1)
  assert server.asked["a", "bb"] == 3


class Clock:
  """Stands for an event that is waited for: it writes down how long."""

  def __init__(self, is_set=False):
    self.waited, self._is_set = [], is_set

  def wait(self, seconds):
    self.waited.append(seconds)
    return self._is_set


@pytest.mark.parametrize(
  ("headers", "waited"),
  [
    ({}, [2, 4, 8, 16, 32, 60]),
    ({"Retry-After": "7"}, [7] * 6),
    ({"Retry-After": "1000"}, [60] * 6),
  ],
)
def test_pauses_grow_unless_the_server_knows(
  serve, headers, waited, monkeypatch
):
  monkeypatch.setattr(endpoint_lib.random, "uniform", lambda *_: 1.0)
  server, clock = serve(lambda *_: (503, headers, b"")), Clock()
  messages = model_judge._messages(model_judge.Question("p", "a", "b"))
  with pytest.raises(endpoint_lib.Failed, match="503"):
    endpoint_lib.ask(at(server, retries=6, pause=2), messages, stop=clock)
  assert clock.waited == waited
  with pytest.raises(endpoint_lib.Failed, match="503"):  # told to stop
    endpoint_lib.ask(at(server, retries=6), messages, stop=Clock(is_set=True))
  assert server.asked["a", "b"] == 7 + 1


def test_a_server_that_is_not_there(cache):
  gone = endpoint_lib.Endpoint(
    "http://127.0.0.1:9/v1", "m", retries=0, timeout=1.0
  )
  pairs = [(f"answer {n}", "x") for n in range(20)]
  with pytest.raises(errors.UserError, match="10 questions in a row"):
    model_judge.judge(gone, questions(*pairs), cache, workers=2)


@pytest.mark.parametrize("status", [401, 404, 302])
def test_what_would_be_refused_always_ends_it(
  serve, cache, status, monkeypatch
):
  """Without the key in the message, and without another host seeing it."""
  monkeypatch.setenv("SOME_KEY", "sk-secret")
  other = serve(longer)
  body = json.dumps({"error": {"message": "bad key sk-secret"}}).encode()
  server = serve(lambda *_: (status, {"Location": other.url}, body))
  with pytest.raises(errors.UserError, match=f"{status} ") as caught:
    model_judge.judge(
      at(server, key_variable="SOME_KEY"), questions(("a", "bb")), cache
    )
  assert "sk-secret" not in str(caught.value)
  assert "SOME_KEY" in str(caught.value)
  assert not other.asked


def test_the_key_is_sent_and_written_nowhere(serve, cache, monkeypatch):
  monkeypatch.setenv("SOME_KEY", "sk-secret\n")
  server = serve(longer)
  model_judge.judge(
    at(server, key_variable="SOME_KEY", options={"temperature": 0}),
    questions(("a", "bb")),
    cache,
  )
  assert server.headers[0]["Authorization"] == "Bearer sk-secret"
  assert server.bodies[0]["model"] == "judge-1"
  assert server.bodies[0]["temperature"] == 0
  assert "secret" not in cache.read_text()


def test_without_a_key_none_is_sent(serve, cache):
  server = serve(longer)
  model_judge.judge(at(server), questions(("a", "bb")), cache)
  assert "Authorization" not in server.headers[0]


def test_nothing_is_asked_twice(serve, cache):
  """After a kill that cut the last line off, and with more questions."""
  server = serve(longer)
  asked = questions(("a", "bb"), ("c", "dd"))
  model_judge.judge(at(server), asked, cache, workers=1)
  cut, inode = cache.read_bytes()[:-10], cache.stat().st_ino
  cache.write_bytes(cut)
  more = [*asked, *questions(("a", "bb"), ("c", "dd"), ("e", "ff"))]
  shares, counts = model_judge.judge(at(server), more, cache)
  assert shares == [0.0] * 5
  assert counts["asked_now"] == 3  # the one that was cut, and the new pair
  assert sum(server.asked.values()) == 7
  assert max(server.asked.values()) == 2
  lines = [json.loads(line) for line in cache.read_text().splitlines()]
  assert len({line["key"] for line in lines}) == len(lines) == 6
  assert cache.stat().st_ino == inode  # the file that is locked


def test_what_an_answer_depends_on_is_asked_anew(serve, cache):
  server = serve(longer)
  asked = questions(("a", "bb"))
  model_judge.judge(at(server), asked, cache)
  hot = at(server, options={"temperature": 1})
  _, counts = model_judge.judge(hot, asked, cache)
  assert counts["asked_now"] == 2


def test_a_server_that_counts_no_tokens(serve, cache):
  server = serve(lambda *_: (200, {}, completion("[[A]]", usage=None)))
  _, counts = model_judge.judge(at(server), questions(("a", "b")), cache)
  assert (counts["prompt_tokens"], counts["answers_without_tokens"]) == (0, 2)


def test_a_file_of_something_else(serve, cache):
  cache.write_text('{"prompt": "mine"}\n')
  with pytest.raises(errors.UserError, match=r"judge\.jsonl:1: no answer of"):
    model_judge.judge(at(serve(longer)), questions(("a", "b")), cache)
  assert cache.read_text() == '{"prompt": "mine"}\n'


@pytest.mark.parametrize(
  ("text", "share"),
  [
    ("[[A]]", 1.0),
    ("[[b]]", 0.0),
    ("Both are fine: [[C]].", 0.5),
    ("[[A]] ... so [[A]]", 1.0),
    (" **B**. ", 0.0),
    ("tie", 0.5),
    ("[[A]] or [[B]]", None),
    ("A is better", None),
    ("", None),
    ("D", None),
  ],
)
def test_verdicts(text, share):
  assert model_judge.verdict_of(text) == share


@pytest.mark.parametrize(
  ("endpoint", "said"),
  [
    (endpoint_lib.Endpoint("api.openai.com", "m"), "no address"),
    (endpoint_lib.Endpoint("ftp://host/v1", "m"), "no address"),
    (endpoint_lib.Endpoint("https:///v1", "m"), "no address"),
    (endpoint_lib.Endpoint("https://me:pw@host/v1", "m"), "a password"),
    (endpoint_lib.Endpoint("https://host/v1", ""), "no model"),
    (
      endpoint_lib.Endpoint("https://host/v1", "m", "NO_SUCH"),
      "NO_SUCH is not",
    ),
    (endpoint_lib.Endpoint("http://host.org/v1", "m", "A_KEY"), "unencrypted"),
  ],
)
def test_what_cannot_be_asked(endpoint, said, monkeypatch):
  monkeypatch.setenv("A_KEY", "sk")
  monkeypatch.delenv("NO_SUCH", raising=False)
  with pytest.raises(errors.UserError, match=said) as caught:
    endpoint_lib.check(endpoint)
  assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
  ("text", "seconds"),
  [("7", 7), ("", None), ("soon", None), ("nan", None)],
)
def test_a_servers_own_pause(text, seconds):
  assert endpoint_lib._own_pause(text) == seconds
