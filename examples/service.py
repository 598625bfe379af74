"""A web service around a served model. It needs maskport (no extras), fastapi, uvicorn and prometheus-client.

MASK_ADDRESS=grpc://localhost:8500 MASK_MODEL=coins uvicorn --app-dir examples service:app --port 8080
"""

import os
from contextlib import asynccontextmanager

import prometheus_client as metrics
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from maskport.serving import client as masks

ADDRESS, MODEL = os.environ.get("MASK_ADDRESS", "grpc://localhost:8500"), os.environ.get("MASK_MODEL", "coins")
DEADLINE_S = float(os.environ.get("MASK_DEADLINE_S", "5"))  # for all of a call, repetitions included
MAX_BYTES = int(os.environ.get("MASK_MAX_BYTES", "20000000"))  # of a picture's file
STATUS = {  # the most special class first; all else is the fault of what stands behind this service: 502
    413: masks.MessageTooLargeError,
    422: (masks.InvalidImageError, masks.InvalidRequestError),
    504: masks.DeadlineExceededError,
    503: (masks.ServerUnavailableError, masks.ServerOverloadedError, masks.ModelNotFoundError),  # try again later
}
SECONDS = metrics.Histogram("mask_seconds", "Time of a call of the model's server.", ["method", "result"])


class CallTimes(masks.Observer):
    """Measures every call of the model's server, by how it ended."""

    def call_ended(self, call: masks.ObservedCall) -> None:  # noqa: D102
        SECONDS.labels(call.method, type(call.error).__name__ if call.error else "OK").observe(call.seconds)


@asynccontextmanager
async def lifespan(app: FastAPI):
    """One client for the life of the service: its connections are kept, and closed in the end."""
    async with masks.AsyncMaskClient(ADDRESS, MODEL, timeout=DEADLINE_S, observers=[CallTimes()]) as app.state.client:
        yield


app = FastAPI(title="Masks", lifespan=lifespan)


@app.exception_handler(masks.MaskServingError)
async def refuse(_: Request, error: masks.MaskServingError) -> JSONResponse:
    """Answers an error as the status that tells whose mistake it is; what a server said stays between the servers."""
    status = next((status for status, kinds in STATUS.items() if isinstance(error, kinds)), 502)
    detail = error.problem if status in (413, 422) else type(error).__name__
    return JSONResponse({"detail": detail}, status, headers={"Retry-After": "1"} if status == 503 else None)


@app.post("/mask", response_class=Response, responses={200: {"content": {"image/png": {}}}})
async def mask(request: Request, threshold: float | None = Query(None, ge=0, le=1)) -> Response:
    """Returns the mask of the picture in the body, at the picture's own size."""
    picture = bytearray()
    async for piece in request.stream():
        picture += piece
        if len(picture) > MAX_BYTES:
            raise masks.MessageTooLargeError(f"a picture may have {MAX_BYTES:,} bytes")
    result = await request.app.state.client.segment(bytes(picture), threshold)
    return Response(result.encode(".png"), media_type="image/png")


@app.get("/health")
async def health() -> dict[str, bool]:
    """Whether this service runs: restart it where it does not answer."""
    return {"alive": True}


@app.get("/ready")
async def ready(request: Request) -> dict[str, bool]:
    """Whether it can mask: send it no traffic where this is an error."""
    await request.app.state.client.wait_until_ready(timeout=1)
    return {"ready": True}


@app.get("/metrics")
async def measured() -> Response:
    """How long calls of the model's server took, for Prometheus."""
    return Response(metrics.generate_latest(), media_type=metrics.CONTENT_TYPE_LATEST)
