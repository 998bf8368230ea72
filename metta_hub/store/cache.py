"""The records that a store used last, by their paths."""

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from metta_hub.errors import BadValueError

if TYPE_CHECKING:
    from metta_hub.store.policy_record import PolicyRecord


class RecordCache:
    """Holds the records that were used last; safe to use from several threads.

    Args:
        size: how many.

    Raises:
        BadValueError: fewer than one, or no number (a ValueError).
    """

    def __init__(self, size: object) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            sentence = f"policy_cache_size is {size!r}; a cache holds one policy or more."
            raise BadValueError("policy_cache_size", sentence, hint="leave policy_cache_size out: 10 is the usual")
        self._size = size
        self._records: OrderedDict[str, PolicyRecord] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> "PolicyRecord | None":
        """The record, which now is the one used last; None when it is not held."""
        with self._lock:
            record = self._records.get(key)
            if record is not None:
                self._records.move_to_end(key)
            return record

    def put(self, key: str, record: "PolicyRecord") -> None:
        """Hold a record; the one that was not used for longest goes when there are too many."""
        with self._lock:
            self._records[key] = record
            self._records.move_to_end(key)
            while len(self._records) > self._size:
                self._records.popitem(last=False)
