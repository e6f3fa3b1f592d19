"""The dashboard: one page a file, drawn by `seaice_lab.figures` from what `library` reads."""
