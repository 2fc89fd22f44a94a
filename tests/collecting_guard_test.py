"""What stands before every page: headers, methods, rates, sizes, tokens."""

import pytest

toys = pytest.importorskip("tests.collecting_toys", exc_type=ImportError)

from instruct_jax.collecting import guard, settings  # noqa: E402


@pytest.fixture
def labels(tmp_path):
  opened = toys.four_kinds(tmp_path / "labels")
  yield opened
  opened.shut()


def test_a_bucket_holds_a_burst_and_fills_by_the_clock():
  clock = toys.Clock()
  buckets = guard.Buckets(2, 0.5, clock)
  assert [buckets.wait("a") for _ in range(3)] == [0.0, 0.0, 2.0]
  assert buckets.wait("b") == 0.0  # another's is another
  clock.now += 1.0
  assert buckets.wait("a") == 1.0
  clock.now += 1.0
  assert buckets.wait("a") == 0.0
  clock.now -= 1000.0  # set back
  assert buckets.wait("a") == 2.0


def test_buckets_forget_who_came_longest_ago(monkeypatch):
  monkeypatch.setattr(guard, "_MOST_BUCKETS", 2)
  buckets = guard.Buckets(1, 0.001, toys.Clock())
  for key in "abc":
    assert buckets.wait(key) == 0.0
  assert buckets.wait("c") > 0
  assert buckets.wait("a") == 0.0


def test_limits_are_the_settings():
  limits = guard.limits_of(settings.defaults().server)
  assert (limits.body, limits.burst, limits.per_second) == (2**20, 600, 10.0)


def test_one_labeler_too_fast_slows_no_other(labels):
  limits = guard.Limits(body=2**20, burst=3, per_second=0.5)
  ann = toys.Labeler(labels, "Ann", limits)
  bob = toys.Labeler(labels, "Bob", client=toys.client_of(labels, limits))
  codes = [ann.client.get("/work").status_code for _ in range(4)]
  assert codes == [200, 200, 429, 429]  # the invitation was the first
  late = ann.client.get("/work")
  assert late.headers["retry-after"] == "3"
  assert bob.client.get("/work").status_code == 200
  labels.clock.now += 3
  assert ann.client.get("/work").status_code == 200


def test_wrong_tokens_are_counted_by_address_and_right_ones_pass(labels):
  limits = guard.Limits(2**20, 100, 100.0, wrong_burst=2, wrong_per_second=0.1)
  client = toys.client_of(labels, limits)
  token = labels.invite("Ann")
  codes = [client.get(f"/invite/{n}").status_code for n in range(4)]
  assert codes == [404, 404, 429, 429]
  client.cookies.set("labeler", "wrong")
  assert client.get("/work").status_code == 429
  client.cookies.clear()
  # Many labelers share an address with whoever tries tokens there.
  assert client.get(f"/invite/{token}").status_code == 303
  assert client.get("/work").status_code == 200


def test_every_answer_has_the_headers(labels):
  ann = toys.Labeler(labels)
  paths = ("/work", "/nowhere", "/task.json", "/static/work.js", "/static/x")
  for path in paths:
    headers = ann.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    kept = "immutable" if path == "/static/work.js" else "no-store"
    assert kept in headers["cache-control"]


@pytest.mark.parametrize(
  "method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW"]
)
def test_other_methods_are_none(labels, method):
  ann = toys.Labeler(labels)
  for path in ("/work", "/answer", "/static/work.js", "/nowhere"):
    reply = ann.client.request(method, path)
    assert reply.status_code == 405
    assert reply.headers["allow"] == "GET, POST"
    assert "content-security-policy" in reply.headers


def test_each_page_has_its_method(labels):
  ann = toys.Labeler(labels)
  assert ann.client.get("/answer").status_code == 405
  assert ann.client.post("/work").status_code == 405


@pytest.mark.parametrize(
  "path",
  [
    "/static/../guard.py",
    "/static/..%2fguard.py",
    "/static/%2e%2e/guard.py",
    "/static/",
    "/static",
    "/static//etc/passwd",
    "/templates/base.html",
    "/labels.sqlite",
    "/work/",
    "/work%00",
    "/instructions.md",
  ],
)
def test_no_path_leads_to_a_file(labels, path):
  ann = toys.Labeler(labels)
  reply = ann.client.get(path)
  assert reply.status_code == 404
  assert "There is no such page" in reply.text


def test_csrf_is_of_the_visitor(labels):
  ann, bob = toys.Labeler(labels), toys.Labeler(labels, "Bob")
  right = ann.task()["csrf"]
  assert right != bob.task()["csrf"]
  wrongs = ("", None, 7, [], right[:-1], right + "0", bob.task()["csrf"], "é")
  for wrong in wrongs:
    for path in ("/answer", "/skip", "/undo", "/survey"):
      reply = ann.post(path, {"csrf": wrong})
      assert reply.status_code == 403
  assert ann.client.post("/undo", data={"a": "1"}).status_code == 403
  assert ann.client.post("/undo", json={}).status_code == 403
  header = {"x-csrf-token": right}
  assert ann.client.post("/undo", json={}, headers=header).status_code == 409


def test_what_is_too_large_is_not_read(labels):
  ann = toys.Labeler(labels, limits=guard.Limits(1000, 100, 100.0))
  assert ann.post("/answer", {"x": "y" * 1000}).status_code == 413

  def endless():
    for _ in range(50):
      yield b"x" * 100

  reply = ann.client.post(
    "/answer", content=endless(), headers={"content-type": "application/json"}
  )
  assert reply.status_code == 413


@pytest.mark.parametrize(
  "kind", ["", "text/plain", "multipart/form-data; boundary=x", "text/html"]
)
def test_only_two_types_are_read(labels, kind):
  ann = toys.Labeler(labels)
  headers = {"content-type": kind}
  reply = ann.client.post("/answer", content=b"{}", headers=headers)
  assert reply.status_code == 415


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"{",
    b"[]",
    b"1",
    b"null",
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}',
    b'{"a": 1, "a": 2}',
    b'{"a": "\\ud800"}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 5000,
  ],
)
def test_what_is_no_json_is_told(labels, content):
  ann = toys.Labeler(labels)
  headers = {"content-type": "application/json"}
  reply = ann.client.post("/answer", content=content, headers=headers)
  assert reply.status_code == 400
  assert "cannot be read" in reply.json()["message"]


@pytest.mark.parametrize(
  "content", [b"a=%ff", b"\xff=1", b"&".join(b"a=1" for _ in range(2000))]
)
def test_what_is_no_form_is_told(labels, content):
  ann = toys.Labeler(labels)
  headers = {"content-type": "application/x-www-form-urlencoded"}
  reply = ann.client.post("/answer", content=content, headers=headers)
  assert reply.status_code == 400
  assert "cannot be read" in reply.text
