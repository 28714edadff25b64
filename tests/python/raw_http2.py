"""Just enough HTTP/2 to send what no client library would, and to see what comes of it."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 3, 4, 6, 7, 8, 9,
)  # fmt: skip
MAX_FRAME_SIZE, MAX_CONCURRENT_STREAMS = 5, 3
ACK = END_STREAM = 1
END_HEADERS = 4
TIMEOUT = 30


class Http2:
    """A connection; its requests have the odd stream numbers from 1 on."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.socket.sendall(PREFACE)
        self.send(SETTINGS)
        # Answers of any size are possible.
        self.send(WINDOW_UPDATE, payload=struct.pack(">I", (1 << 31) - 1 - 65_535))
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, kind, flags=0, payload=b"", stream=0):
        self.socket.sendall(frame(kind, flags, payload, stream))

    def accept_settings(self):
        """From here on the server's windows hold, the streams' and the connection's."""
        self.wait_for(SETTINGS)
        self.send(SETTINGS, ACK)
        self.wait_for(WINDOW_UPDATE)

    def frames(self):
        """`(type, flags, payload)` of each frame until the connection ends."""
        for kind, flags, _, payload in self.stream_frames():
            yield kind, flags, payload

    def stream_frames(self):
        """`(type, flags, stream, payload)` of each frame until the connection ends."""
        while True:
            header = self._read(9)
            if header is None:
                return
            length = int.from_bytes(header[:3], "big")
            stream = int.from_bytes(header[5:], "big")
            yield header[3], header[4], stream, self._read(length)

    def wait_for(self, kind, flags=0):
        others = []
        for each in self.frames():
            if each[0] == kind and each[1] == flags:
                return each[2]
            others.append(each)
        raise AssertionError(f"the connection ended after {others}")

    def _read(self, count):
        while len(self._buffer) < count:
            part = self.socket.recv(1 << 16)
            if not part:
                return None
            self._buffer += part
        content, self._buffer = self._buffer[:count], self._buffer[count:]
        return content


def frame(kind, flags=0, payload=b"", stream=0):
    length = struct.pack(">I", len(payload))[1:]
    return length + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name, value):
    """A header field that no table keeps (RFC 7541, section 6.2.2)."""
    return b"\0" + _text(name) + _text(value)


def request_headers(method, path, *more):
    """The header block of a request; `more` are pairs."""
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x")]
    return b"".join(header(name, value) for name, value in [*fields, *more])


def grpc_headers(method, *more):
    """The header block of a call."""
    more = [("content-type", "application/grpc"), ("te", "trailers"), *more]
    return request_headers("POST", method, *more)


def _text(text):
    content = text.encode()
    if len(content) < 127:
        return bytes([len(content)]) + content
    # An integer of several bytes (RFC 7541, section 5.1).
    length, number = bytearray([127]), len(content) - 127
    while number >= 128:
        length.append(number % 128 + 128)
        number //= 128
    length.append(number)
    return bytes(length) + content
