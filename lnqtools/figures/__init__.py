"""Figures as journals print them. A function takes what is to be shown and returns a Figure."""
