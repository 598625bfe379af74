"""Results out: masks and what can be made of them."""
