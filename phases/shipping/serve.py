"""A web server on this machine for the folder of `just page`."""
from __future__ import annotations

import functools
import http.server
from pathlib import Path

TYPES = {".wasm": "application/wasm", ".mjs": "text/javascript", ".js": "text/javascript", ".css": "text/css",
         ".html": "text/html; charset=utf-8", ".json": "application/json", ".svg": "image/svg+xml"}


class Handler(http.server.SimpleHTTPRequestHandler):
    """The files of one folder, with the types that browsers insist on; no listings, and nothing through a link."""
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | TYPES
    timeout = 30  # seconds for a request that does not end

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if not path.resolve().is_relative_to(Path(self.directory).resolve()):
            self.send_error(404)
            return None
        return super().send_head()

    def list_directory(self, path):
        self.send_error(404)

    def end_headers(self):
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A browser that disconnects, or sends nonsense, ends its own request only."""


def server(folder: Path, port: int) -> Server:
    """A server of the folder on 127.0.0.1; ValueError if the port cannot be used."""
    handler = functools.partial(Handler, directory=str(folder))
    try:
        return Server(("127.0.0.1", port), handler)
    except OSError as e:
        raise ValueError(f"serve = {port}: the port cannot be used ({e.strerror}); give another") from None
