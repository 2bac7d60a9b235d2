"""A small service over HTTP on derwin-db, to read and to start from. `python -m examples.service` starts it.

`access.py` says who may do what, `app.py` puts the parts together, `routers/` has a file for each part of the API.
"""
