"""Results as data, tables, the blocks of Markdown pages, drawings, the page about a run."""
