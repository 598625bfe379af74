"""Both clients under one face, so that one test says what both do."""

import asyncio
import threading
from typing import Any

from maskport.serving.client import AsyncMaskClient, MaskClient


class BlockingAsyncClient:
    """An `AsyncMaskClient` on a loop of its own thread, called like a `MaskClient`."""

    def __init__(self, *args: Any, **kwargs: Any):
        self._loop = asyncio.new_event_loop()
        self._iterators: list[Any] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def make() -> AsyncMaskClient:
            return AsyncMaskClient(*args, **kwargs)

        try:
            self._client = self.run(make())
        except BaseException:
            self._stop()
            raise

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __getattr__(self, name: str) -> Any:
        def call(*args, **kwargs):
            async def run():
                return await getattr(self._client, name)(*args, **kwargs)

            return self.run(run())

        return call

    def segment_many(self, *args, **kwargs):
        async def start():
            return self._client.segment_many(*args, **kwargs)

        items = self.run(start())

        def blocking():
            try:
                while True:
                    try:
                        yield self.run(anext(items))
                    except StopAsyncIteration:
                        return
            finally:
                if not self._loop.is_closed():
                    self.run(items.aclose())

        self._iterators.append(items)
        return blocking()

    def close(self) -> None:
        if not self._loop.is_closed():
            self.run(self._close())
            self._stop()

    async def _close(self):
        await self._client.close()
        for iterator in self._iterators:
            await iterator.aclose()
        # What it cancelled gets time to say so before the loop ends.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=5)

    def _stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


CLIENTS = {"sync": MaskClient, "async": BlockingAsyncClient}
KINDS = [f"{kind}-{transport}" for kind in CLIENTS for transport in ("grpc", "rest")]


def make_client(kind: str, serving: Any, model: str = "model", **options: Any):
    """Returns a client of a kind such as `async-rest`; `serving` has addresses, or is one."""
    client, transport = kind.split("-")
    address = serving if isinstance(serving, str | list) else serving.address(transport)
    return CLIENTS[client](address, model, **options)
