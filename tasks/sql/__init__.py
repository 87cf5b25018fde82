"""Gateway to DuckDB: the guard of feature SQL, cut views, labels. Its modules are imported by name.

- `guard`: which SQL is accepted, and what it gives;
- `features`: a feature view computed for one knowledge cut after another;
- `labels`: label expressions, and features joined with labels;
- `views`: the identity of a feature view.
"""
