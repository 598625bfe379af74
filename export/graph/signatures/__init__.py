"""What signatures do: the steps that all of them share, from pixels and from encoded pictures."""
