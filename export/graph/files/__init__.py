"""Encoded pictures: what their headers say, decoded, and answers as PNG and JPEG."""
