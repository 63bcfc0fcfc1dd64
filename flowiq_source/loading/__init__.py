"""Rows become tables in the destination: what dlt is told, the views, the lock."""
