"""The same examples in every run, on a slow machine too."""

from hypothesis import settings

settings.register_profile("millrace", derandomize=True, database=None, deadline=None)
settings.load_profile("millrace")
