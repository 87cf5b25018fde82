"""A package, so that its platform ends with the last of these tests, not beside all others."""
