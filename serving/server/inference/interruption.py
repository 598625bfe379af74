"""Lets one run of a session be given up while it goes on.

A session can be told how long a run may take, but not to stop one now; so a client that hangs up would leave
the model computing for nobody. A few nodes beside the model's make up for that. A run takes a slot, which is a
queue in the graph, and runs a guard too: a node that waits for an element of that queue. The run's own last
node puts one there, which ends the guard and with it the run. Whoever wants the run to end closes the queue from
outside; then the guard fails, and the session stops the whole run as it does at any failure. A queue that was
closed is destroyed, and made anew by the next run in its slot. All this costs some 10 microseconds per run.

Closing a queue, and what follows from it, happens in the thread that asks for it, as all of TensorFlow's threads may
be taken. But a run whose guard got none of them, because as many runs compute as there are processors, or more, goes
on until it does.
"""

import contextlib
import threading
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import tensorflow as tf

from ..calls import Call

_SCOPE = "zz_interruption"
"""Comes last in the alphabet: a session numbers its feeds in that order, and names the number in errors."""
_MAX_ENDINGS = 64
"""Beside those that are foreseen."""
_THIS_THREAD = -1
"""In place of a thread pool's number."""


class Interrupter:
    """The guard nodes of one graph, and which slots are free."""

    def __init__(self, graph: tf.Graph, slots: int, foreseen: Iterable[Collection[str]] = ()) -> None:
        """Adds the nodes to a graph that is in no session yet.

        Args:
            graph: the model's.
            slots: how many of its runs at a time can be interrupted.
            foreseen: fetches that runs will have. For others the session places its whole graph again.
        """
        self._graph = graph
        self.session: Any = None  # set once there is one that runs the graph
        self._free = list(range(slots))
        self._lock = threading.Lock()
        self._endings: dict[frozenset[str], Any] = {}
        with graph.as_default(), tf.device("/CPU:0"), tf.name_scope(_SCOPE):
            self._slot = tf.compat.v1.placeholder(tf.int32, [], "slot")
            queues = [
                tf.raw_ops.FIFOQueueV2(
                    component_types=[tf.bool], shapes=[[]], capacity=1, shared_name=f"interruption_{slot}"
                )
                for slot in range(slots)
            ]
            self._queue = tf.gather(tf.stack(queues), self._slot)
            self._guard = tf.raw_ops.QueueDequeueV2(handle=self._queue, component_types=[tf.bool])[0].op
            self._close = tf.raw_ops.QueueCloseV2(handle=self._queue)
            self._destroy = tf.raw_ops.DestroyResourceOp(resource=self._queue)
        self.feed = self._slot._as_tf_output()
        for fetches in dict.fromkeys(map(frozenset, foreseen)):
            with contextlib.suppress(KeyError, ValueError):  # names that it has not; whoever fetches them is told
                self._endings[fetches] = self._make_ending(fetches)
        self._most_endings = len(self._endings) + _MAX_ENDINGS

    def targets(self, fetches: Collection[str]) -> list[Any] | None:
        """Returns the operations to run beside some fetches; None where there are too many kinds already."""
        key = frozenset(fetches)
        with self._lock:
            if key not in self._endings:
                if len(self._endings) >= self._most_endings:
                    return None
                self._endings[key] = self._make_ending(fetches)
            return [self._guard._c_op, self._endings[key]._c_op]

    def _make_ending(self, fetches: Collection[str]) -> Any:
        last = [self._graph.get_tensor_by_name(name).op for name in fetches]
        with self._graph.as_default(), tf.device("/CPU:0"), tf.name_scope(_SCOPE):
            ending = tf.raw_ops.QueueEnqueueV2(handle=self._queue, components=[tf.constant(True)])
        # tf.control_dependencies would mark the model's nodes, which a session has taken over already.
        ending._add_control_inputs(last)
        if self.session is not None:
            self.session._extend_graph()
        return ending

    def take_slot(self) -> int | None:
        """Returns a free slot, or None."""
        with self._lock:
            return self._free.pop() if self._free else None

    @contextlib.contextmanager
    def watching(self, call: Call, slot: int) -> Iterator["Watch"]:
        """Interrupts the run in the block once its caller has gone; gives the slot back after it."""
        watch = Watch(lambda: self._run_here(self._close, slot))
        call.when_cancelled(watch.interrupt)
        try:
            yield watch
        finally:
            call.when_cancelled(None)
            watch.close()
            if watch.was_interrupted:
                with contextlib.suppress(RuntimeError):  # the session has been closed meanwhile: the server ends
                    self._run_here(self._destroy, slot)
            with self._lock:
                self._free.append(slot)

    def _run_here(self, operation: Any, slot: int) -> None:
        """Runs an operation in this thread."""
        options = tf.compat.v1.RunOptions(inter_op_thread_pool=_THIS_THREAD)
        self.session.run(operation, {self._slot: slot}, options)


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
