"""A server of this machine that speaks the OpenAI protocol: right, or wrong in the way that a test asks for.

Run as a script it prints its URL, and serves until it is ended; an argument is the seconds that an answer takes.
"""

import base64
import hashlib
import json
import struct
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIMENSION = 8


def vector_of(text: str) -> list[float]:
    """Float32 numbers that follow from a text, not of length 1."""
    digest = hashlib.blake2b(text.encode(), digest_size=4 * DIMENSION).digest()
    numbers = [n / 2**31 - 1 for n in struct.unpack(f"<{DIMENSION}I", digest)]
    return list(struct.unpack(f"<{DIMENSION}f", struct.pack(f"<{DIMENSION}f", *numbers)))


class Stub:
    """The same vectors from an object, for what is compared with the server's."""

    def encode(self, texts):
        return [vector_of(text) for text in texts]


def written(prompt: str, seed: int) -> str:
    """A query that follows from a prompt and a seed."""
    return hashlib.blake2b(f"{seed} {prompt}".encode(), digest_size=6).hexdigest() + " ?"


class Loopback(ThreadingHTTPServer):
    """Serves at `url`; `asked` keeps path, headers and body of each request, `most` how many came at once.

    `faults` are taken from the front, one a request: a status (with a body, and headers, as a tuple), "cut", "drop",
    seconds to wait, or a function of the right answer that returns the bytes to send; `always` is one for all others.
    What else is wrong with it is set: `largest` batch, `choices` at most, `order` of what it gives, `slow` seconds.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.asked, self.faults, self.always = [], [], None
        self.largest, self.choices, self.slow, self.order, self.base64 = None, None, 0.0, 1, True
        self.now = self.most = 0
        self.lock = threading.Lock()

    def handle_error(self, *_):
        """Keep quiet of clients that are gone."""

    @property
    def bodies(self):
        return [body for _, _, body in self.asked]

    def answer(self, path, body):
        if path == "/v1/embeddings":
            texts = body["input"]
            if self.largest is not None and len(texts) > self.largest:
                return 413, {"message": f"batch size {len(texts)} > maximum allowed batch size {self.largest}"}
            data = [{"index": i, "embedding": self._vector(text, body)} for i, text in enumerate(texts)]
            return 200, {"data": data[:: self.order]}
        prompt = body["prompt"] if path == "/v1/completions" else body["messages"][0]["content"]
        choices = []
        for i in range(min(body["n"], self.choices or body["n"])):
            text = written(prompt, body["seed"] + i)
            said = {"text": f" {text}"} if path == "/v1/completions" else {"message": {"content": f"{text}\nmore"}}
            choices.append({"index": i, **said})
        return 200, {"choices": choices[:: self.order]}

    def _vector(self, text, body):
        numbers = vector_of(text)
        if not self.base64 or body.get("encoding_format") != "base64":
            return numbers
        return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback

    def log_message(self, *_):
        pass

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.asked.append((self.path, dict(self.headers), body))
            fault = server.faults.pop(0) if server.faults else server.always
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            time.sleep(server.slow + (fault if isinstance(fault, float) else 0))
            self._send(*server.answer(self.path, body), fault)
        finally:
            with server.lock:
                server.now -= 1

    def _send(self, status, answer, fault):
        content, headers = json.dumps(answer).encode(), {}
        if fault == "drop":
            self.close_connection = True
            return
        if callable(fault):
            content = fault(answer)
        elif isinstance(fault, tuple | int):
            status, said, headers = (*(fault if isinstance(fault, tuple) else (fault,)), {"error": "no"}, {})[:3]
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
        self.close_connection = fault == "cut"


@contextmanager
def serving():
    """A server in threads of this process, until the block ends."""
    with Loopback() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


if __name__ == "__main__":
    with Loopback() as alone:
        alone.slow = float(sys.argv[1]) if sys.argv[1:] else 0.0
        print(alone.url, flush=True)
        alone.serve_forever()
