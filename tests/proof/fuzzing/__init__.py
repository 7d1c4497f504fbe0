"""A differential fuzzer: responses cut anywhere, read by ours, by others and by the book."""
