"""`python -m flowiq_source.sandbox`, the same as `flowiq sandbox`."""

from flowiq_source.sandbox.command import sandbox

sandbox(prog_name="python -m flowiq_source.sandbox")
