"""Lets one run of a session be given up while it goes on.

A session can be told how long a run may take, but not to stop one now; so a client that hangs up would leave
the model computing for nobody. A few nodes beside the model's make up for that. A run takes a slot, which is a
queue in the graph, and runs a guard too: a node that waits for a word in that queue. The run's own last node
puts `True` there, which ends the guard and with it the run. Whoever wants the run to end puts `False` there
from outside; then the guard fails, and the session stops the whole run as it does at any failure. It costs some
10 microseconds per run.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from .calls import Call

_SCOPE = "zz_interruption"
"""Comes last in the alphabet: a session numbers its feeds in that order, and names the number in errors."""
_MAX_ENDINGS = 64
_CAPACITY = 4


class Interrupter:
    """The guard nodes of one graph, and which slots are free."""

    def __init__(self, graph: tf.Graph, slots: int) -> None:
        """Adds the nodes; the graph must not be in a session yet.

        Args:
            graph: the model's.
            slots: runs that can be interrupted at a time; further ones go on to their end.
        """
        self._graph = graph
        self._session: Any = None
        self._free = list(range(slots))
        self._lock = threading.Lock()
        self._endings: dict[tuple[str, ...], Any] = {}
        with graph.as_default(), tf.device("/CPU:0"), tf.name_scope(_SCOPE):
            self._slot = tf.compat.v1.placeholder(tf.int32, [], "slot")
            queues = [
                tf.raw_ops.FIFOQueueV2(
                    component_types=[tf.bool], shapes=[[]], capacity=_CAPACITY, shared_name=f"interruption_{slot}"
                )
                for slot in range(slots)
            ]
            self._queue = tf.gather(tf.stack(queues), self._slot)
            self._word = tf.raw_ops.QueueDequeueV2(handle=self._queue, component_types=[tf.bool])[0]
            self._guard = tf.raw_ops.Assert(condition=self._word, data=["interrupted"])
            self._stop = tf.raw_ops.QueueEnqueueV2(handle=self._queue, components=[tf.constant(False)])
            self._waiting = tf.raw_ops.QueueSizeV2(handle=self._queue)
        self.feed = self._slot._as_tf_output()

    def attach(self, session: Any) -> None:
        """Names the session that runs the graph."""
        self._session = session

    def targets(self, fetches: Sequence[str]) -> list[Any] | None:
        """Returns the operations to run beside some fetches; None where there are too many kinds already."""
        key = tuple(fetches)
        with self._lock:
            if key not in self._endings:
                if len(self._endings) >= _MAX_ENDINGS:
                    return None
                self._endings[key] = self._ending(fetches)
            return [self._guard._c_op, self._endings[key]._c_op]

    def _ending(self, fetches: Sequence[str]) -> Any:
        last = [self._graph.get_tensor_by_name(name).op for name in fetches]
        with self._graph.as_default(), tf.device("/CPU:0"), tf.name_scope(_SCOPE), tf.control_dependencies(last):
            ending = tf.raw_ops.QueueEnqueueV2(handle=self._queue, components=[tf.constant(True)])
        if self._session is not None:
            self._session._extend_graph()
        return ending

    def take_slot(self) -> int | None:
        """Returns a free slot, or None."""
        with self._lock:
            return self._free.pop() if self._free else None

    @contextlib.contextmanager
    def watching(self, call: Call, slot: int) -> Iterator["Watch"]:
        """Interrupts the run in the block once its caller has gone; gives the slot back after it."""
        watch = Watch(lambda: self._session.run(self._stop, {self._slot: slot}))
        call.when_cancelled(watch.interrupt)
        try:
            yield watch
        finally:
            call.when_cancelled(None)
            watch.close()
            if watch.was_interrupted:
                # The run may have been over already: its slot must not keep the word for the next one.
                for _ in range(self._session.run(self._waiting, {self._slot: slot})):
                    self._session.run(self._word, {self._slot: slot})
            with self._lock:
                self._free.append(slot)


class Watch:
    """One run that can be interrupted."""

    def __init__(self, stop: Any) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._is_over = False
        self.was_interrupted = False

    def interrupt(self) -> None:
        """Stops the run, if it is not over."""
        with self._lock:
            if not self._is_over and not self.was_interrupted:
                self.was_interrupted = True
                self._stop()

    def close(self) -> None:
        """Says that the run is over; from now on nothing is stopped."""
        with self._lock:
            self._is_over = True
