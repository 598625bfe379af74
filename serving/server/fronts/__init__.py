"""The two ways in: gRPC and REST, both over the one core."""
