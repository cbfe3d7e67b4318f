"""PostgreSQL below the ORM: several statements in one round trip, answers that are remembered, and pgvector.

Entry functions: ``statements.execute_together`` and ``statements.ask``. A *statement* is a pair of SQL and parameters;
its *answer* is a list of rows. May import: Django, pgvector and NumPy, nothing of this app.
"""
