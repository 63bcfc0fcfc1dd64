"""Which pages a run asks for, and what in them is new; no dlt, no HTTP."""
