"""No torch: command lines, files, limits of what is read, protocols of the public data sets."""
