"""Reports: one page of plots, tables and notes, as HTML, Markdown and JSON."""
