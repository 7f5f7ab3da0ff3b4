"""How well the memory finds, over notes and queries that people might have written (`notes.tsv`)."""
