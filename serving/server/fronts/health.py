"""gRPC's own health service."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def add_health_service(server: grpc.Server) -> None:
    """Has a server say that it runs; it says nothing of models, as in TensorFlow Serving."""
    health_pb2_grpc.add_HealthServicer_to_server(_Health(), server)


class _Health(health.HealthServicer):
    """gRPC's health service, with the C++ server's word for services it does not know."""

    def __init__(self) -> None:
        super().__init__()
        for service in ("", "ModelService", "PredictionService"):
            self.set(service, health_pb2.HealthCheckResponse.SERVING)

    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        response = super().Check(request, context)
        if response.status == health_pb2.HealthCheckResponse.UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
        return response
