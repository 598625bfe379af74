"""The contract, the client and the servers. Empty, so that importing one part loads only that part."""
