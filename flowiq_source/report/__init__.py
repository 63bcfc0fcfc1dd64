"""A report to look at: one HTML file that needs no network and no script.

`gather.py` asks the models for `numbers.py`; `figures.py` makes sentences, tables and charts of
them, with `definitions.py`; `charts.py` and `svg.py` draw; `page.py` puts the page together.
Needs the extra `report`.
"""
