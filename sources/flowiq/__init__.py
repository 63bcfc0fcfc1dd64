"""The FlowIQ source of the installed package `flowiq-source`, as `dlt init` copies it."""

from flowiq_source import flowiq_source, plan, status, sync, verify

__all__ = ["flowiq_source", "plan", "status", "sync", "verify"]
