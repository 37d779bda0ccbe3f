"""What the library survives: kills, damage, bad input, strange surroundings. ``make torture`` runs all of it."""
