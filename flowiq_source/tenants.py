"""What a tenant's pipeline and staging dataset are called."""

import hashlib
import re

_PLAIN = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_READABLE = 24


def tenant_suffix(tenant_id: str) -> str:
    """An ending for names, `_acme`, that no two tenants share; empty where there is no tenant.

    dlt folds what is not ASCII, and repeated underscores: two tenants would meet in one name. So
    what is not a plain name keeps its readable part and gets a short hash.
    """
    if not tenant_id or (_PLAIN.fullmatch(tenant_id) and len(tenant_id) <= _READABLE):
        return tenant_id and f"_{tenant_id}"
    readable = re.sub("[^a-z0-9]+", "_", tenant_id.lower())[:_READABLE].strip("_")
    digest = hashlib.sha256(tenant_id.encode()).hexdigest()[:8]
    return "_".join(["", *filter(None, [readable]), digest])
