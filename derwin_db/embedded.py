"""The embedded PostgreSQL server, for tools and tests that start one themselves. Public. Its package is the extra `[embedded]`.

    from derwin_db import embedded

    logins = embedded.start()  # the owner's, the service's and the operator's connection
    embedded.stop()

The calls block. How they work lives in `derwin_db.deploy.embedded`, which is not public.
"""

from derwin_db.deploy.embedded import Logins, Status, client_program, default_data_dir, start, status, stop

__all__ = ["Logins", "Status", "client_program", "default_data_dir", "start", "status", "stop"]
