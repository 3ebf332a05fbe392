"""The page of the server in a real browser: narrow, by keyboard, in the dark, and while there is something to see.

Arguments: the addresses of the doors, Chromium's program, a folder for pictures.
"""

import json
import re
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from check import check, main

CHROMIUM, PICTURES = sys.argv[3], Path(sys.argv[4])


def visit(http, action, **context):
    """Opens the page, does something with it, and looks that it asked nobody else and complained of nothing."""
    asked, complaints = [], []
    with sync_playwright() as playwright:
        # Without its sandbox, which is not to be had for root.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(**context).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://{http}/")
        page.wait_for_function("document.getElementById('state').textContent === 'ready'")
        page.wait_for_function("document.querySelectorAll('article').length >= 6")
        action(page)
        browser.close()
    assert all(url.startswith(f"http://{http}/") for url in asked), asked
    # A browser asks for a picture of the site by itself.
    complaints = [told for told in complaints if "404" not in told or "favicon" in told]
    return complaints


def work(http):
    row = {"inputs": [{"name": "x", "shape": [3, 2], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]}
    for path, body in (("/v2/models/nop/infer", row), ("/embed", {"inputs": ["the cat", "sat"], "model": "bert_mean"})):
        for _ in range(20):
            request = urllib.request.Request(f"http://{http}{path}", data=json.dumps(body).encode())
            urllib.request.urlopen(request, timeout=30).read()
    together = [socket.create_connection(http.rsplit(":", 1)) for _ in range(2)]
    for connection in together:
        # Connections that are open at the same time are callers by themselves.
        body = json.dumps(row)
        head = f"POST /v2/models/nop/infer HTTP/1.1\r\nHost: {http}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    for connection in together:
        connection.close()
    nothing = {"inputs": [{"name": "x", "shape": [0, 2], "datatype": "FP32", "data": []}]}
    try:
        urllib.request.urlopen(f"http://{http}/v2/models/nop/infer", data=json.dumps(nothing).encode(), timeout=30)
    except urllib.error.HTTPError as error:
        assert error.code == 400, error
    else:
        raise AssertionError("no rows were served")


@check
def shows_what_happens(http, _):
    work(http)

    def look(page):
        card = page.locator("article", has=page.get_by_role("heading", name="nop", exact=True))
        latencies, batches = (card.get_by_role("img").nth(place).get_attribute("aria-label") for place in (0, 1))
        assert re.fullmatch(r"requests by latency: (\d+ of [≤>] [\d.]+ (µs|ms|s)(, )?)+", latencies), latencies
        assert re.fullmatch(r"batches by rows: (\d+ of \d+ rows?(, )?)+", batches), batches
        told = dict(zip(card.locator("dt").all_text_contents(), card.locator("dd").all_text_contents()))
        assert re.fullmatch(r"0 of \d+ tasks, 0 rows", told["queue"]), told
        assert re.fullmatch(r"[\d.]+ %", told["padding"]), told
        assert re.fullmatch(r"\d+: (\d+ (rejected|canceled|backend|other)(, )?)+", told["failed"]), told
        assert card.locator("meter").get_attribute("aria-label").startswith("queue: 0 of "), card.inner_html()
        callers = card.locator("table tr td:first-child").all_text_contents()
        assert len(callers) >= 2 and all(re.fullmatch(r"connection \d+|\d+ others", it) for it in callers), callers
        # What went wrong last, with its reason.
        problems = page.locator("#problems li").all_inner_texts()
        wanted = ("400 · POST /v2/models/nop/infer", "expected at least 1")
        assert any(all(part in problem for part in wanted) for problem in problems), problems
        # The second look knows how much came between the two.
        page.wait_for_function("[...document.querySelectorAll('dd')].some(it => /\\/ s$/.test(it.textContent))")
        page.screenshot(path=PICTURES / "page.png", full_page=True)

    assert visit(http, look, viewport={"width": 1100, "height": 800}) == []


@check
def fits_a_narrow_screen(http, _):
    def look(page):
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 400, wide
        # Nothing sticks out of its box either.
        out = page.evaluate(
            "[...document.querySelectorAll('body *')].filter(it => it.getBoundingClientRect().right > 400.5).length"
        )
        assert out == 0, out
        page.screenshot(path=PICTURES / "page-narrow.png", full_page=True)

    assert visit(http, look, viewport={"width": 400, "height": 800}, color_scheme="dark") == []


@check
def is_used_by_keyboard(http, _):
    def use(page):
        focused = lambda: page.evaluate("document.activeElement.id || document.activeElement.tagName")
        page.keyboard.press("Tab")
        assert focused() == "model", focused()
        page.keyboard.type("bert_mean")
        assert page.locator("#model").input_value() == "bert_mean"
        page.keyboard.press("Tab")
        assert focused() == "text", focused()
        page.keyboard.press("Control+A")
        page.keyboard.type("a dog ran")
        page.keyboard.press("Tab")
        assert focused() == "BUTTON", focused()
        # Whoever uses the keyboard must see where he is.
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Enter")
        page.wait_for_function("/^[0-9.]+ ms/.test(document.getElementById('answer').textContent)")
        answer = page.locator("#answer").text_content()
        vector = json.loads(answer.split("\n", 1)[1])
        assert len(vector) == 1 and len(vector[0]) == 12, answer
        page.keyboard.press("Tab")
        assert focused() in ("answer", "A"), focused()

    assert visit(http, use, viewport={"width": 400, "height": 800}) == []


@check
def tells_what_a_model_is_that_takes_no_text(http, _):
    def use(page):
        page.select_option("#model", "nop")
        page.get_by_role("button", name="Ask").click()
        page.wait_for_function("document.getElementById('answer').textContent.includes('\"platform\"')")

    # Two questions were refused before, which the browser notes.
    told = visit(http, use)
    assert all("422" in line or "501" in line or "400" in line for line in told), told


@check
def names_are_text_and_nothing_else(http, _):
    def use(page):
        page.fill("#text", "<img src=x onerror=alert(1)>")
        page.select_option("#model", "bert_mean")
        page.get_by_role("button", name="Ask").click()
        page.wait_for_function("/ms/.test(document.getElementById('answer').textContent)")
        assert page.locator("img").count() == 0

    assert visit(http, use) == []


PICTURES.mkdir(parents=True, exist_ok=True)
main("page")
