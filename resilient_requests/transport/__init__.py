"""Connections that are recycled: how they are dialled, pooled, retired and read."""
