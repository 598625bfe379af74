"""The one form that every model is brought into, and what can be told of it."""
