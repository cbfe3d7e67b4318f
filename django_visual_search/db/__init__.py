"""PostgreSQL below the ORM: several statements in one round trip, vectors as text, and the ``vector`` extension.

Entry function: ``statements.execute_together``. A *statement* is a pair of SQL and parameters; its *answer* is a list
of rows. May import: Django and psycopg, nothing of this app.
"""
