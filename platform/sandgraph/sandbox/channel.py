"""A sandbox's stdin and stdout as frames: asyncio over the socket that attaches to a container.

The engine multiplexes: each piece of output comes behind 8 bytes that name its stream and its length. Nothing is read
ahead of what was asked for, so a sandbox that talks faster than it is listened to waits in its own write.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

from sandgraph_runner.protocol import Decoder, Frame, ProtocolError

_HEADER = struct.Struct(">BxxxI")
_STDOUT = 1
_STDERR = 2
_CHUNK = 64 * 1024
_DIAGNOSTICS = 8 * 1024


class Demultiplexer:
    """Takes the engine's stream apart, piece by piece; holds back no more than a header."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yield ``(stream, bytes)`` for what is in ``data``; 1 is stdout, 2 is stderr.

        Raises:
            ProtocolError: There is no such stream: this is not an engine's multiplexed stream.
        """
        view = memoryview(data)
        while view:
            if not self._left:
                missing = _HEADER.size - len(self._header)
                self._header += view[:missing]
                view = view[missing:]
                if len(self._header) < _HEADER.size:
                    return
                self._stream, self._left = _HEADER.unpack(self._header)
                self._header.clear()
                if self._stream not in (_STDOUT, _STDERR):
                    raise ProtocolError(f"the engine's stream has a piece for a stream {self._stream}")
                continue
            piece, view = view[: self._left], view[self._left :]
            self._left -= len(piece)
            yield self._stream, piece


class Channel:
    """Frames to and from one sandbox. One task at a time receives; the socket is the channel's from now on.

    Args:
        attached: What `Engine.attach` returned.
        max_frame_bytes: Largest frame that is accepted, until `expect` says otherwise.
    """

    def __init__(self, attached: socket.socket, max_frame_bytes: int = 64 * 1024) -> None:
        self._socket = attached
        self._demultiplexer = Demultiplexer()
        self._decoder = Decoder(max_frame_bytes)
        self._stderr = bytearray()
        self._at_end = False

    @property
    def diagnostics(self) -> str:
        """The last of what the supervisor itself wrote to stderr, which is nothing as long as all is well."""
        return self._stderr.decode("utf-8", "replace")

    @property
    def is_between_frames(self) -> bool:
        """Whether all that was received has been handed over."""
        return self._decoder.is_between_frames

    def is_alive(self) -> bool:
        """Look, without waiting, whether the other side is still there."""
        if self._at_end:
            return False
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def expect(self, max_frame_bytes: int) -> None:
        """Accept frames up to this size from now on."""
        self._decoder.max_frame_bytes = max_frame_bytes

    async def send(self, parts: Sequence[bytes]) -> None:
        """Send all of them, large ones without a copy.

        Raises:
            OSError: The other side is gone.
        """
        loop = asyncio.get_running_loop()
        if sum(map(len, parts)) <= _CHUNK:
            await loop.sock_sendall(self._socket, b"".join(parts))
            return
        for part in parts:
            await loop.sock_sendall(self._socket, part)

    async def receive(self) -> Frame | None:
        """Return the next frame; None once the other side has gone, even where that cut a frame short.

        Raises:
            ProtocolError: What came is not a frame, or is larger than allowed.
        """
        loop = asyncio.get_running_loop()
        while (frame := next(self._decoder.feed(b""), None)) is None and not self._at_end:
            try:
                data = await loop.sock_recv(self._socket, _CHUNK)
            except OSError:
                data = b""
            self._at_end = not data
            frame = self._take(data)
            if frame is not None:
                return frame
        return frame

    async def drain(self, within_s: float) -> None:
        """Wait for the other side to go, or so many seconds, and forget what it still says."""
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(within_s):
                while await loop.sock_recv(self._socket, _CHUNK):
                    pass

    def shut_down(self) -> None:
        """End both directions: whoever waits in `receive` or `send` is told so."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let the socket go; nobody may be waiting on it any more."""
        self._at_end = True
        self._socket.close()

    def _take(self, data: bytes) -> Frame | None:
        stdout = []
        for stream, piece in self._demultiplexer.feed(data):
            if stream == _STDOUT:
                stdout.append(piece)
            else:
                self._stderr += piece
                del self._stderr[:-_DIAGNOSTICS]
        return next(self._decoder.feed(b"".join(stdout)), None) if stdout else None
