"""Servers on the loopback that play the protocols of data servers, with their usual faults."""

import socketserver
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CUT = 20000  # bytes after which a faulty answer breaks off


class Handler(BaseHTTPRequestHandler):
    """Answers from ``server.files`` (path: bytes); ``server.faults`` (path: list) come first.

    A fault is a status, a pair of status and headers, "cut" or "slow". HEAD has no faults except
    numbers.
    """

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        server = self.server
        server.requests.append((self.command, self.path, self.headers.get("Range")))
        faults = server.faults.get(self.path, [])
        fault = faults.pop(0) if faults and with_body else None
        if isinstance(fault, int):
            fault = (fault, {})
        if isinstance(fault, tuple):
            return self.reply(fault[0], b"", fault[1])
        if self.path not in server.files:
            return self.reply(404, b"")
        content = server.files[self.path]
        headers, status, start = {"ETag": str(hash(content))}, 200, 0
        if with_body and self.headers.get("Range") and fault != "whole":
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
            status = 206 if start < len(content) else 416
        self.reply(status, content[start:], headers, with_body, fault)

    def reply(self, status, body, headers=(), with_body=True, fault=None):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            broken = fault in ("cut", "slow")
            self.wfile.write(body[:CUT] if broken else body)
            if fault == "slow":
                self.wfile.flush()
                time.sleep(2)
            self.close_connection = broken

    def log_message(self, *_):
        """Print nothing."""


@contextmanager
def http_server():
    """An HTTP server; its address is ``server.address``, and ``server.requests`` what was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.faults, server.requests = {}, {}, []
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class FtpHandler(socketserver.StreamRequestHandler):
    """The commands of FTP that a download needs, in passive mode, for anybody."""

    def handle(self):
        self.say("220 ready")
        for line in self.rfile:
            command, _, argument = line.decode().strip().partition(" ")
            if getattr(self, f"do_{command}", self.unknown)(argument):
                return

    def say(self, text):
        self.wfile.write(f"{text}\r\n".encode())

    def unknown(self, _):
        self.say("500 unknown")

    def do_USER(self, _):
        self.say("331 password")

    def do_PASS(self, _):
        self.say("230 logged in")

    def do_TYPE(self, _):
        self.say("200 binary")

    def do_SIZE(self, path):
        content = self.server.files.get(path)
        self.say("550 no such file" if content is None else f"213 {len(content)}")

    def do_EPSV(self, _):
        self.data = socketserver.TCPServer(("127.0.0.1", 0), None)
        self.say(f"229 passive (|||{self.data.server_address[1]}|)")

    def do_PASV(self, _):
        self.data = socketserver.TCPServer(("127.0.0.1", 0), None)
        port = self.data.server_address[1]
        self.say(f"227 passive (127,0,0,1,{port // 256},{port % 256})")

    def do_RETR(self, path):
        connection, _ = self.data.get_request()
        faults = self.server.faults.get(path, [])
        content = self.server.files[path][: CUT if faults and faults.pop(0) == "cut" else None]
        self.say("150 sending")
        connection.sendall(content)
        connection.close()
        self.data.server_close()
        self.say("226 done")

    def do_QUIT(self, _):
        self.say("221 bye")
        return True


class FtpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def ftp_server():
    """An FTP server; its address is ``server.address``."""
    server = FtpServer(("127.0.0.1", 0), FtpHandler)
    server.files, server.faults = {}, {}
    server.address = f"ftp://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
