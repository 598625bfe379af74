"""How requests are merged: what a batching parameters file says."""

import dataclasses
import os

from ..errors import invalid_argument


@dataclasses.dataclass(frozen=True)
class PoolSettings:
    """The threads that run batches, shared by all models."""

    threads: int = os.cpu_count() or 1  # batches run at a time
    name: str = ""  # under which waiting times are recorded


@dataclasses.dataclass(frozen=True)
class BatchingSettings:
    """How the requests of a model are merged."""

    max_batch_size: int = 1000  # rows of a request, and of a batch where requests are not split
    timeout_s: float = 0  # how long a batch waits for more requests
    max_enqueued_batches: int = 10  # that may wait in a queue; further requests are refused
    allowed_sizes: tuple[int, ...] = ()  # ascending; a batch is padded to the next of these
    pads_lengths: bool = False  # whether requests of different shapes are padded to a common one
    split_size: int = 0  # rows in a batch where large requests are split over several; 0 is never

    @property
    def full_size(self) -> int:
        """Rows of a batch that is full."""
        return self.split_size or self.max_batch_size

    def check(self) -> None:
        """Raises RequestError where the settings contradict each other."""
        if self.allowed_sizes and self.allowed_sizes[-1] != self.max_batch_size:
            raise invalid_argument(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{self.allowed_sizes[-1]}; expected {self.max_batch_size}"
            )
        if self.split_size > self.max_batch_size:
            raise invalid_argument(
                "When enable_large_batch_splitting is true, max_batch_size must be greater than or equal to "
                f"max_execution_batch_size; they are {self.max_batch_size} and {self.split_size}"
            )

    def padded_size(self, size: int) -> int:
        """Returns the number of rows that a batch of `size` is run with."""
        return next((allowed for allowed in self.allowed_sizes if allowed >= size), size)
