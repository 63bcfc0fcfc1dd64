"""What a team on WhatsApp asks, as SQL views over the tables: answers, waits, windows, delivery.

`sql/` holds one SELECT per model, in DuckDB's SQL, with what it means at its head; `definitions.py`
puts them into a destination's dialect, `create.py` into its dataset. What depends on time zones and
business hours is in one table, made by `calendar.py`.
"""

from flowiq_source.models.create import Models, create_models
from flowiq_source.models.settings import ModelSettings

__all__ = ["ModelSettings", "Models", "create_models"]
