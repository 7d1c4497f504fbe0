"""A differential fuzzer: responses cut anywhere in time, read by ours, by plain requests and by the book."""
