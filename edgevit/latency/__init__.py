"""How long an inference takes on a board that is not here: a prediction with an interval, never a measurement."""
