"""What is measured, a module for each group; each has one function, `measure`, that yields its findings."""
