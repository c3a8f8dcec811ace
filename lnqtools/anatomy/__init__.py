"""What a chest CT holds besides lymph nodes: named structures, and the lungs."""
