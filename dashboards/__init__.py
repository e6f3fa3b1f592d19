"""The dashboard: one file for each page. `readers` gives the data, `seaice_lab.figures` draws."""
