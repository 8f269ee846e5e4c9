"""The page's server gives its folder and nothing else."""
import socket
import urllib.error
import urllib.request

import pytest

from phases.shipping import serve
from tests.helpers.browser import served

NONSENSE = (b"\x00\xff\x16\x03" * 50 + b"\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n", b"GET /%00 HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"GET")


def get(address: str) -> tuple[int, str]:
    """(status, type) of an address."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"]
    except urllib.error.HTTPError as e:
        return e.code, ""


def test_the_server_gives_its_folder_alone_with_types(tmp_path):
    # a page, and outside it a file that a link in it leads to
    folder = tmp_path / "page"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "sub").mkdir()
    for name in ("a.wasm", "a.mjs", "a.js", "index.html", "page.json"):
        (folder / name).write_text(name)

    with served(folder) as (host, port):
        assert host == "127.0.0.1"
        for nonsense in NONSENSE:
            with socket.create_connection((host, port), timeout=5) as line:
                line.sendall(nonsense)

        # it still answers
        page = f"http://{host}:{port}"
        assert [get(f"{page}/a.{kind}") for kind in ("wasm", "mjs", "js")] == [
            (200, "application/wasm"), (200, "text/javascript"), (200, "text/javascript")]
        assert get(f"{page}/")[0] == 200
        for outside in ("/../secret.txt", "/%2e%2e/secret.txt", "/link.txt", "/sub/", "//etc/passwd", "/none"):
            assert get(page + outside)[0] == 404, outside


def test_a_port_in_use_is_one_line(tmp_path):
    with served(tmp_path) as (_, port), pytest.raises(ValueError, match="cannot be used"):
        serve.server(tmp_path, port)
