"""Try-on of films: frames over Ray Data, poses and warps smoothed in time, sound kept."""
