"""Reports: one kind of page with plots, tables and notes, as HTML, Markdown and JSON."""
