"""How a transaction is bound to one project: the seal of the scope, the preamble that opens it, and what the catalog must say.

`preamble` opens, `seal` makes the token, `catalog` compares the server with what this package makes. The repository's own
fence, the guard of statements, lives in `derwin_db.query.guard`.
"""
