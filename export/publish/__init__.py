"""From a module to a version directory that servers may load: its record, golden answers, checks, and its name."""
