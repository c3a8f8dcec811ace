"""Images: where their voxels lie, and the files that hold them."""
