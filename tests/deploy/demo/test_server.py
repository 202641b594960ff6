"""The server as programs reach it: what it refuses, that it says so, and that it holds no more than it promised."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgepress.deploy.demo.answers import Engines
from edgepress.deploy.demo.gate import BusyError, Gate, Shelf
from edgepress.deploy.engines.onnxruntime import OnnxRuntimeEngine
from edgepress.deploy.tag.tagger import Tagger
from edgepress.multilabel.errors import InputError
from tests.deploy.demo.conftest import SMALL_SHELF, running
from tests.loading.client import Client
from tests.loading.load import load

JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def jpeg(splits) -> bytes:
    return Path(splits.test.paths[0]).read_bytes()


@pytest.fixture(scope="module")
def hasty(engines):
    """A demo where few may wait, and not for long."""
    with running(engines, Gate(4, 0.5)) as server:
        yield server


@pytest.fixture(scope="module")
def open_to_all(engines):
    """A demo that answers to any host, as `--listen 0.0.0.0` does."""
    with running(engines, Gate(4, 30.0), local=False) as server:
        yield server


class Overflowing(OnnxRuntimeEngine):
    """An engine whose first logit is no number."""

    def _run(self, images):
        logits = np.zeros((len(images), len(self.labels)), np.float32)
        logits[:, 0] = np.nan
        return logits


def token_of(reply) -> str:
    status, body = reply
    assert status == 200, body
    return body["token"]


def answer_of(reply) -> str:
    status, body = reply
    assert status == 200, body
    return body["data"][2]


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


class TestRefusals:
    def test_a_picture_that_is_answered(self, demo, jpeg):
        assert "data-token" in answer_of(demo.answer(token_of(demo.send(jpeg))))

    def test_too_large(self, demo):
        status, body = demo.send(bytes(20_000_001))
        assert (status, body["error"]) == (413, "The picture is too large; they are taken up to 20 MB.")

    def test_a_size_that_is_not_said(self, demo):
        head = f"POST /picture HTTP/1.1\r\nHost: localhost:{demo.port}\r\nTransfer-Encoding: chunked\r\n"
        with socket.create_connection(("127.0.0.1", demo.port), timeout=30) as sender:
            sender.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\n3\r\nabc\r\n".encode())
            assert sender.recv(4096).startswith(b"HTTP/1.1 411")

    def test_empty(self, demo):
        assert demo.send(b"") == (400, {"error": "The file is empty.", "detail": "The file is empty."})

    def test_a_form_of_another_site(self, demo, jpeg):
        assert demo.ask("POST", "/picture", jpeg, Content_Type="text/plain")[0] == 415

    def test_a_host_that_is_not_here(self, demo):
        assert demo.ask("GET", "/", Host="evil.example")[0] == 421
        assert demo.ask("GET", "/", Host=f"localhost:{demo.port}")[0] == 200

    def test_a_loopback_address_is_here_and_a_name_that_looks_like_one_is_not(self, demo):
        assert demo.ask("GET", "/", Host=f"127.0.0.2:{demo.port}")[0] == 200
        assert demo.ask("GET", "/", Host=f"[::1]:{demo.port}")[0] == 200
        assert demo.ask("GET", "/", Host=f"127.0.0.2.evil.example:{demo.port}")[0] == 421

    @pytest.mark.parametrize(("method", "path"), [("POST", "/picture"), ("GET", "/"), ("OPTIONS", "/picture")])
    @pytest.mark.parametrize("origin", ["http://evil.example", "null"])
    def test_a_page_of_another_site(self, open_to_all, jpeg, method, path, origin):
        said = {"Host": f"demo.example:{open_to_all.port}", "Content_Type": "application/octet-stream"}
        assert open_to_all.ask(method, path, jpeg, Origin=origin, **said)[0] == 403
        assert open_to_all.shelf.held_bytes == 0

    def test_its_own_page(self, demo, jpeg):
        origin = demo.url.rstrip("/")
        assert demo.ask("POST", "/picture", jpeg, Origin=origin, Content_Type="application/octet-stream")[0] == 200

    @pytest.mark.parametrize("path", ["/picture", "/", "/gradio_api/run/predict"])
    def test_no_site_is_given_leave(self, open_to_all, path):
        connection = http.client.HTTPConnection("127.0.0.1", open_to_all.port, timeout=30)
        connection.request("OPTIONS", path, headers={"Host": "demo.example", "Access-Control-Request-Method": "POST"})
        answer = connection.getresponse()
        connection.close()
        assert (answer.status, answer.getheader("allow")) == (405, "GET, HEAD, POST")
        assert answer.getheader("access-control-allow-origin") is None

    @pytest.mark.parametrize("event", [5, None, "token", ["token"]])
    @pytest.mark.parametrize("number", [0, 1])
    def test_an_event_that_is_no_object(self, demo, capsys, event, number):
        body = json.dumps({"data": [], "event_data": event, "fn_index": number, "session_hash": "a"}).encode()
        status, said = demo.ask("POST", "/gradio_api/run/predict", body, **JSON)
        assert (status, said["error"]) == (400, "expected JSON with an object as its event_data")
        assert "Traceback" not in capsys.readouterr().err

    @pytest.mark.parametrize("body", [b"", b"5", b"\xff", b"[" * 60_000])
    def test_a_body_that_is_no_event(self, demo, capsys, body):
        assert demo.ask("POST", "/gradio_api/run/predict", body, **JSON)[0] == 400
        assert "Traceback" not in capsys.readouterr().err

    @pytest.mark.parametrize(
        "path",
        [
            "/gradio_api/file=/etc/hostname",
            "/gradio_api/file=http://127.0.0.1:1/",
            "/gradio_api/proxy=http://127.0.0.1:1/",
            "/gradio_api/info",
            "/gradio_api/queue/status",
            "/gradio_api//file=/etc/hostname",
        ],
    )
    def test_what_gradio_has_and_the_page_does_not_use(self, demo, path):
        assert demo.ask("GET", path)[0] == 404

    @pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/component_server"])
    def test_what_takes_files(self, demo, path):
        assert demo.ask("POST", path, b"{}", **JSON)[0] == 404

    def test_a_path_for_a_token_is_not_read(self, demo):
        assert "no longer held here" in answer_of(demo.answer("/etc/hostname"))

    def test_an_unknown_engine(self, demo, jpeg):
        said = answer_of(demo.answer(token_of(demo.send(jpeg)), "<b>none</b>"))
        assert "&lt;b&gt;none&lt;/b&gt;" in said
        assert "onnx-int8-onnxruntime" in said

    def test_an_event_that_is_too_large(self, demo):
        body = json.dumps({"data": ["x" * 70_000]}).encode()
        assert demo.ask("POST", "/gradio_api/run/predict", body, **JSON)[0] == 413

    def test_what_a_browser_is_told(self, demo):
        connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=30)
        connection.request("GET", "/")
        headers = dict(connection.getresponse().getheaders())
        connection.close()
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"

    def test_a_picture_that_never_arrives(self, demo, monkeypatch):
        monkeypatch.setattr("edgepress.deploy.demo.server.RECEIVE_SECONDS", 0.3)
        with socket.create_connection(("127.0.0.1", demo.port), timeout=30) as slow:
            head = f"POST /picture HTTP/1.1\r\nHost: 127.0.0.1:{demo.port}\r\nContent-Length: 1000\r\n"
            slow.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\nabc".encode())
            assert slow.recv(4096).startswith(b"HTTP/1.1 408")

    def test_more_pictures_at_once_than_are_received(self, demo, jpeg, monkeypatch):
        monkeypatch.setattr("edgepress.deploy.demo.server.RECEIVED_BYTES", 2000 + len(jpeg) // 2)
        head = f"POST /picture HTTP/1.1\r\nHost: 127.0.0.1:{demo.port}\r\nContent-Length: 1000\r\n"
        slow = [socket.create_connection(("127.0.0.1", demo.port), timeout=30) for _ in range(2)]
        for connection in slow:
            connection.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\nabc".encode())
        until(lambda: demo.send(jpeg)[0] == 503)
        assert demo.send(jpeg)[1]["error"] == "Busy: other pictures are being received. Try again in a moment."
        for connection in slow:
            connection.close()
        until(lambda: demo.send(jpeg)[0] == 200)


def until(holds) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("it did not come true within 30 s")


class TestManyAtOnce:
    """200 pictures are given at once, each by a client of its own that then asks for its answer."""

    def once(self, demo, jpeg: bytes) -> str:
        return answer_of(demo.answer(token_of(demo.send(jpeg))))

    def burst(self, demo, jpeg: bytes) -> list[str]:
        with ThreadPoolExecutor(200) as clients:
            return list(clients.map(lambda _: self.once(demo, jpeg), range(200)))

    def test_each_is_answered_or_told_that_it_is_busy(self, hasty, jpeg):
        threads = threading.active_count()
        self.burst(hasty, jpeg)  # what is made once is made
        before = resident_kb()
        said = [text for _ in range(3) for text in self.burst(hasty, jpeg)]
        answered = [text for text in said if "data-token" in text]
        assert answered
        assert all("Busy: " in text and "Try again" in text for text in said if "data-token" not in text)
        assert resident_kb() - before < 100_000
        assert threading.active_count() <= threads + 40  # Gradio's pool
        assert hasty.shelf.held_bytes <= SMALL_SHELF

    def test_while_one_takes_its_time_the_others_are_told_so(self, hasty, jpeg):
        with hasty.gate.turn():
            said = self.burst(hasty, jpeg)
        assert all("Busy: " in text for text in said)
        waited = [text for text in said if "did not come within 0.5 s" in text]
        refused = [text for text in said if "4 pictures wait already" in text]
        assert waited
        assert refused
        assert "data-token" in self.once(hasty, jpeg)

    def test_the_load_that_make_load_gives_in_small(self, hasty, jpeg):
        asked = {"requests": 60, "at_once": 20, "each": 30}
        found = load(hasty, os.getpid(), jpeg, engine="onnx-fp32", **asked)
        assert (found["answered"] + found["busy"], found["failed"], found["failures"]) == (60, 0, [])
        assert [part["answered"] + part["busy"] for part in found["parts"]] == [30, 30]
        assert 0 < found["answered_p50_ms"] <= found["answered_p99_ms"] <= found["answered_max_ms"]
        assert all(0 < part["resident_mb"] <= part["most_mb"] for part in found["parts"])
        wrong = load(hasty, os.getpid(), b"no picture", engine="onnx-fp32", requests=2, at_once=1)
        assert (wrong["failed"], wrong["answered_p50_ms"], wrong["failures"][0]["times"]) == (2, None, 2)
        assert "not a picture" in wrong["failures"][0]["said"]
        gone = load(Client(1), os.getpid(), jpeg, engine="onnx-fp32", requests=1, at_once=1)
        assert "ConnectionRefused" in gone["failures"][0]["said"]


def test_where_no_engine_shows_what_it_looks_at_the_page_says_how_to_make_one(engines, jpeg):
    blind = Engines(engines.folder, {"onnx-fp32": engines.taggers["onnx-fp32"]})
    with running(blind, Gate(4, 30.0)) as demo:
        token = token_of(demo.send(jpeg))
        body = {"data": [], "event_data": {"token": token, "label": "red"}, "fn_index": 1, "session_hash": token}
        _, answer = demo.ask("POST", "/gradio_api/run/predict", json.dumps(body).encode(), **JSON)
    assert "edgepress export STUDENT --data DIR --attention --out onnx-fp32-attention" in answer["data"][0]


def test_logits_that_are_no_numbers_are_an_error_and_not_a_no(engines, jpeg):
    bundle = engines.taggers["onnx-fp32"].engine.bundle
    with running(Engines(engines.folder, {"<broken>": Tagger(Overflowing(bundle))}), Gate(4, 30.0)) as demo:
        said = answer_of(demo.answer(token_of(demo.send(jpeg)), "<broken>"))
    assert f"&lt;broken&gt;: 1 of its {len(bundle.labels)} logits are NaN or infinite; choose another engine" in said
    assert "data-token" not in said


class TestGate:
    def test_only_one_has_the_turn(self):
        gate, inside, most = Gate(8, 30.0), [], []

        def work(number: int) -> None:
            with gate.turn():
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.01)
                inside.remove(number)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert most == [1] * 8

    def test_a_place_is_given_back_after_an_error(self):
        gate = Gate(0, 0.1)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="planned"), gate.turn():
                raise RuntimeError("planned")
        with gate.turn(), pytest.raises(BusyError, match="0 pictures wait already"), gate.turn():
            pass


class TestShelf:
    def test_the_oldest_go_first(self):
        shelf = Shelf(10, 60.0)
        tokens = [shelf.put(f"{number}", bytes(4)) for number in range(4)]
        assert shelf.held_bytes == 8
        assert shelf.get(tokens[3]).name == "3"
        with pytest.raises(InputError, match="give it again"):
            shelf.get(tokens[1])

    def test_the_newest_stays_whatever_its_size(self):
        shelf = Shelf(10, 60.0)
        token = shelf.put("large", bytes(100))
        assert shelf.get(token).data == bytes(100)

    def test_one_that_is_still_to_be_asked_about_is_not_put_away_for_another(self):
        shelf = Shelf(10, 60.0, awaited_seconds=0.1)
        first, second = shelf.put("first", bytes(5)), shelf.put("second", bytes(5))
        with pytest.raises(BusyError, match="Try again in a moment"):
            shelf.put("third", bytes(5))
        assert shelf.get(first).name == "first"  # asked about: it may make room
        shelf.put("third", bytes(5))
        assert shelf.get(second).name == "second"
        with pytest.raises(InputError, match="give it again"):
            shelf.get(first)
        shelf.put("fourth", bytes(5))
        time.sleep(0.15)
        shelf.put("large", bytes(10))  # nobody came for the third and the fourth
        assert shelf.held_bytes == 10

    def test_time_passes(self):
        shelf = Shelf(10, 0.05)
        token = shelf.put("a", b"a")
        time.sleep(0.1)
        with pytest.raises(InputError, match="no longer held"):
            shelf.get(token)
        assert shelf.held_bytes == 0


def test_the_ring_and_the_light_are_where_the_maximum_is():
    from edgepress.deploy.demo.looking import draw

    attention = np.zeros((4, 8), np.float32)
    attention[1, 6] = 1
    seen = draw(np.full((100, 200, 3), 200, np.uint8), attention)
    assert (seen.across, seen.down) == (6.5 / 8, 1.5 / 4)
    height, width = seen.image.shape[:2]
    assert (height, width) == (240, 480)
    assert seen.image[round(seen.down * height), round(seen.across * width)].mean() > 190
    assert seen.image[-1, 0].mean() == pytest.approx(40, abs=1)
