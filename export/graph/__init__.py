"""What is saved: from an encoded picture to a mask, step by step inside the graph, and the graph's faster forms."""
