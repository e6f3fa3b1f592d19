"""The dashboard: one page a file, drawn with `seaice_lab.charts` from what `library` reads."""
