"""What only a GPU can show, collected by make gpu-test alone; DEVICE=cpu rehearses it."""
