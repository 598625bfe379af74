"""A hundred thousand requests that no friend sends, and what must come of them."""
