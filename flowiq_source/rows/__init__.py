"""A page becomes rows: one table of columns and dialects, nothing that asks or stores."""
