"""Programs, one a file, each started by `just`; the rooms below hold what they share."""
