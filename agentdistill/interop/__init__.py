"""Foreign worlds, one lazy file each: nothing here is imported until an environment of its kind is asked for by name."""
