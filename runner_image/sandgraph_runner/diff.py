"""What a function changed in the state."""

from __future__ import annotations

from sandgraph_runner.lean import Any
from sandgraph_runner.plain import Unstorable, checked_key, storable
from sandgraph_runner.protocol import Job
from sandgraph_runner.text import decoder, encoder

# Taken before submitted code could replace them.
_decode = decoder()
_encode = encoder(ascii_only=False)


class Diff:
    """The state before a function, and what it left.

    Values are compared as JSON text: ``True``, ``1`` and ``1.0`` differ, and so do objects whose keys are in another
    order; a tuple equals the list it is stored as.

    Args:
        state: The state as the text of a JSON object.

    Attributes:
        before: The parsed state; a function may change its values in place.
        after: The state after the function: an unchanged key has its value, a changed one the JSON text in ``texts``.
        texts: JSON texts of the keys that were changed or may have been.
        ops: The JSON text of each operation, in the order of their keys.
    """

    def __init__(self, state: bytes) -> None:
        self._state = state.decode()
        self._pristine: dict[str, Any] | None = None
        self.before: dict[str, Any] = _decode(self._state)
        self.after: dict[str, Any] = self.before
        self.texts: dict[str, str] = {}
        self.ops: list[str] = []

    def take(self, data: dict[str, Any], handed_out: set[str], changes: dict[Any, Any], job: Job) -> None:
        """Find the operations that lead from the state before to ``data`` with ``changes`` on top of it.

        Args:
            data: The state's keys as the function left them.
            handed_out: Keys whose values may have been changed in place.
            changes: What the function returned.
            job: Its limits.

        Raises:
            Unstorable: A key or a value cannot be stored, or they are too many or too large.
        """
        left = {**dict.copy(data), **changes}
        if len(left) > job.max_keys:
            raise Unstorable.at(
                str(list(left)[job.max_keys]),
                f"is one too many: there are {len(left)} keys, {job.max_keys} are allowed",
            )
        ops = {key: f'{{"op":"delete","key":{_encode(key)}}}' for key in self.before if key not in left}
        after, total = {}, 0
        for key, value in left.items():
            name = key if type(key) is str and key in self.before else checked_key(key)
            after[name] = value
            if name in self.before and self.before[name] is value and name not in handed_out:
                continue
            copy = storable(name, value, job.max_depth)
            text = self.texts[name] = _encode(copy)
            if name in self.before and self._was(name, copy, text):
                continue
            total += len(text) if text.isascii() else len(text.encode())
            if total > job.max_result_bytes:
                raise Unstorable.at(name, f"makes the changes larger than the limit of {job.max_result_bytes} bytes")
            ops[name] = f'{{"op":"set","key":{_encode(name)},"value":{text}}}'
        self.after = after
        self.ops = [ops[key] for key in sorted(ops)]

    def _was(self, key: str, value: object, text: str) -> bool:
        """Tell whether a key had this value, with this text, before."""
        before = self.before[key]
        if isinstance(before, dict | list):
            # It may have been changed in place, so what it was is parsed anew, once for all keys.
            if self._pristine is None:
                self._pristine = _decode(self._state)
            before = self._pristine[key]
        # Only the texts tell True from 1 apart, but to compare the values first is ten times as fast.
        return bool(before == value) and _encode(before) == text
