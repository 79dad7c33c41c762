"""Is one cause one page, from its first second to its last?"""

from __future__ import annotations

import http.server
import threading
import time
from contextlib import ExitStack

import pytest

from tests.nvml import GPU_IS_LOST, LIB_RM_VERSION_MISMATCH
from tests.process import free_port
from tests.stack.conftest import Start
from tests.stack.servers import until

pytestmark = [pytest.mark.prometheus, pytest.mark.nvml, pytest.mark.timeout(300)]


STORY = """
  - {{probe: gpu_driver, every: 1s, timeout: 900ms}}
  - {{probe: http, name: api, every: 1s, timeout: 900ms, objective: 0.99, params: {{url: "http://127.0.0.1:{port}/"}}}}
"""
GONE = {"gpu1.err.nvmlDeviceGetTemperature": GPU_IS_LOST}
BROKEN = dict.fromkeys(("gpu0.err.nvmlDeviceGetTemperature", "err.nvmlInitWithFlags"), LIB_RM_VERSION_MISMATCH)


def web_service(stack: ExitStack, port: int) -> None:
    """Answers 200 to anybody, until the stack is closed."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    stack.callback(thread.join, 5)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.mark.parametrize(
    ("cause", "answers"),
    [("GpuCanaryGpuMissing", GONE), ("GpuCanaryDriverBroken", BROKEN), ("GpuCanaryServiceDown", {})],
)
def test_one_cause_is_one_page_from_its_first_second_to_its_last(
    start: Start, cause: str, answers: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Waits are a twentieth. The outage lasts for 25 s (8 minutes); what follows its end is watched as well."""
    port = free_port()
    with ExitStack() as well:
        web_service(well, port)
        stack = start(hurry=True, more=STORY.format(port=port), tier="server")
        until(lambda: stack.prometheus.query('gpucanary_check_outcome{check="api", outcome="ok"} == 1'), "it is well")
        begun = time.time()
        if not answers:
            well.close()
        stack.stub.set(answers)
        if cause == "GpuCanaryGpuMissing":
            stack.stub.raise_xid(1, 79)
        stack.arrived(cause)
        time.sleep(max(0.0, begun + 25 - time.time()))
        stack.stub.set(dict.fromkeys(answers))
        if not answers:
            web_service(well, port)
        stack.arrived(cause, "resolved", 60)
        time.sleep(8)
    messages = [
        (round(at - begun, 1), sent) for at, sent in stack.pages.payloads if sent["receiver"] in ("page", "ticket")
    ]
    with capsys.disabled():
        for at, sent in messages:
            names = sorted(
                {f"{a['labels']['alertname']}({a['labels']['check']}) {a['status']}" for a in sent["alerts"]}
            )
            print(f"\n{cause}: {at:5} s {sent['receiver']} {sent['status']}: {', '.join(names)}", end="")
    assert {sent["receiver"] for _, sent in messages} == {"page"}
    assert len({sent["groupKey"] for _, sent in messages}) == 1
