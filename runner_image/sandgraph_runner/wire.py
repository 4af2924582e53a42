"""The supervisor's end of the protocol: frames on the standard streams it was started with."""

from __future__ import annotations

import os
import select

from sandgraph_runner.protocol import Decoder, Frame, Kind, ProtocolError, encode

#: A job's frame may hold a state and the code of many tools.
MAX_FRAME_BYTES = 96 * 1024 * 1024

_READ = 1024 * 1024


class OwnerGone(Exception):
    """Nobody is there any more to report to, or they broke the protocol."""


class Wire:
    """Sends and receives frames.

    Args:
        stdin: Where the host's frames come from.
        stdout: Where ours go to.
    """

    def __init__(self, stdin: int, stdout: int) -> None:
        self.stdin = stdin
        self._stdout = stdout
        os.set_blocking(stdout, False)

    @classmethod
    def take_over(cls) -> Wire:
        """Move the standard streams to descriptors of their own; 0 becomes empty and 1 the same as 2."""
        wire = cls(os.dup(0), os.dup(1))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        return wire

    def is_spoken_to(self, within_s: float) -> bool:
        """Tell whether the host has sent something, or gone, as soon as it has or so many seconds are over."""
        return bool(select.select([self.stdin], [], [], within_s)[0])

    def receive(self) -> Frame:
        """Wait for the one frame that the host sends.

        Raises:
            OwnerGone: The stream ended before it, or something follows it.
            ProtocolError: It is not a frame.
        """
        decoder = Decoder(MAX_FRAME_BYTES)
        while data := os.read(self.stdin, _READ):
            frames = list(decoder.feed(data))
            if frames:
                if len(frames) > 1 or not decoder.is_between_frames:
                    raise ProtocolError("more than one frame came")
                return frames[0]
        raise OwnerGone("the stream of orders ended")

    def send(self, kind: Kind, meta: dict[str, object], body: bytes = b"") -> None:
        """Send a frame, waiting for as long as the host takes its time.

        Raises:
            OwnerGone: The host is not there any more.
        """
        data = memoryview(encode(kind, meta, body))
        while data:
            try:
                data = data[os.write(self._stdout, data) :]
            except BlockingIOError:
                self._wait()
            except BrokenPipeError:
                raise OwnerGone("the stream of reports was closed") from None

    def _wait(self) -> None:
        readable, _, _ = select.select([self.stdin], [self._stdout], [])
        if readable:
            raise OwnerGone("the stream of orders ended, or went on")
