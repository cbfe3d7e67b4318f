"""A shop of the shapes and packages that the test shop has not, run by ``tests/integration/field`` in its own process.

django-safedelete, django-modeltranslation, django-simple-history, django-hashid-field, django-polymorphic and
django-tenants change whatever they are installed beside, so they stay out of the other tests' settings.
"""
