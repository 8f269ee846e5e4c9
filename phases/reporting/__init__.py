"""Results as data, tables, the blocks of the READMEs, drawing."""
