"""The one file a node reads before it can open its database: `posthouse.toml`, all of it optional.

`setting.py` says what a setting is, `schema.py` holds them all, `settings.py` reads and checks the
file, `build.py` makes each package's own Options, `limits.py` and `reference.py` show them.
"""
