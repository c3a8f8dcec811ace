"""Bad and odd inputs of every kind, each with what the tools promise to make of it."""
