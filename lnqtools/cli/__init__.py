"""The command line: one thin module a tool, over the modules beside this package."""
