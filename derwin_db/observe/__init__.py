"""What observers of a `Database` are told, and the slow-query log. OpenTelemetry is the face `derwin_db.otel`."""
