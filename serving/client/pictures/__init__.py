"""Pictures in: what can be sent, read whole or by pieces, and what a model takes of it."""
